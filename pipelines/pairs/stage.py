"""Build training pairs: the motion comes from a driving window, the pixels from a target window.

Kinds: `same_view` is self-reconstruction. `cross_view` and `moving_camera` show the same performance at the same time
from two cameras; the target's camera is static in the former and moves in the latter, by its camera terms. In
`resynthesised`, the driver is a synthetic re-rendering of the target, which is always the real video.
"""

import hashlib
import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from opendimo.pipelines.cameras.terms import Term
from opendimo.pipelines.captions.window import camera_moves
from opendimo.pipelines.engine.columns import look_up
from opendimo.pipelines.engine.planned import CHUNK, Planned
from opendimo.pipelines.engine.revisions import best_poses, current_captions, newest
from opendimo.pipelines.engine.stage import DataError, Needs, Outcome, Work, run_each
from opendimo.pipelines.latents.windows import Window, bucket_of
from opendimo.pipelines.pairs.splits import splits
from opendimo.pipelines.quality.policy import Policy
from opendimo.pipelines.quality.repeats import links
from opendimo.pipelines.quality.verdicts import kept_clips
from opendimo.pipelines.rigs.current import camera_verdicts, disagreeing
from opendimo.storage_schemas.ids import stable_id, work_key
from opendimo.storage_schemas.lake.lake import Lake
from opendimo.storage_schemas.rows import Row, arrow_to_rows

SIZE_COLUMNS = ["width", "height", "frames"]
WINDOW_COLUMNS = [column.name for column in fields(Window)]
CLIP_COLUMNS = [
    "source_id", "capture_id", "view", "kind", "subject", "start_frame", "frames", "fps_num", "fps_den", "track",
]  # fmt: skip

SOURCE_COLUMNS = ["content_sha256", "resynthesis_of"]


@dataclass(frozen=True)
class PairsConfig:
    """Which latents to pair, and the share held out for testing.

    `vae`: value of `LatentsStage.vae`. `window`, `buckets`: those of `LatentsConfig`. `test_share`: share of the
    subjects (captures, for unknown subjects) to hold out; unless it is 0, at least one is held out for each kind of
    pair, if other groups remain for training. `seen`: least share of a driving window's frames in which the person is
    visible.
    """

    vae: str
    window: Window = field(default_factory=Window)
    test_share: float = 0.1
    seen: float = 0.75
    buckets: tuple[Window, ...] = ()

    @property
    def windows(self) -> tuple[Window, ...]:
        """Return `window` and the further ones."""
        return self.window, *self.buckets

    def identity(self) -> dict[str, Any]:
        """Return what enters work keys; keys of lakes without buckets stay valid."""
        identity = asdict(self)
        if not self.buckets:
            del identity["buckets"]
        return identity


@dataclass(frozen=True)
class Inputs:
    """Inputs of `build_pairs`.

    Kept clips by id; their current windows of latents; their best pose and camera terms by clip; captures by id;
    `copies`: pairs of clips that share footage; `late`: delay in frames of late views, by capture and view.
    """

    clips: dict[str, Row]
    windows: list[Row]
    poses: dict[str, Row]
    terms: dict[str, list[Term]]
    captures: dict[str, Row]
    copies: list[tuple[str, str]] = field(default_factory=list)
    late: dict[tuple[str, str], int] = field(default_factory=dict)


IDENTITY = {
    "clips": ["clip_id"],
    "windows": ["latent_id"],
    "poses": ["pose_id"],
    "captions": ["caption_id"],
    "captures": ["capture_id", "subject", "sync_method"],
    "copies": ["clip_id", "other_clip_id"],
    "late": ["capture_id", "view", "offset_frames"],
}
"""The columns of each table that determine the pairs; the work key hashes them."""


class PairsStage:
    """Writes `pairs`.

    All pairs are one piece of work, so a set is stored completely or not at all. Pairs from other labels are another
    set, with another work key.
    """

    name = "pairs"
    version = "4"  # 4: camera terms that hold in the window decide the kind; held-out pairs of each kind
    weights = ""
    needs = Needs(cpus=1, memory_gb=4, timeout_s=24 * 3600)

    def __init__(self, lake_uri: str, config: PairsConfig) -> None:
        self.lake_uri, self.config = lake_uri, config

    def setup(self) -> None:
        """Nothing to load."""

    def run(self, batch: list[Work]) -> Outcome:
        """Build the set of pairs."""
        return run_each(batch, self._write_set)

    def _write_set(self, work: Work) -> dict[str, list[Row]]:
        pairs = build_pairs(gather(Lake(self.lake_uri, existing=True), self.config, work.payload), self.config)
        if not pairs:
            raise DataError("no pairs: no driving window shows the person in enough of its frames; see `dimo status`")
        return {"pairs": [{"pair_id": stable_id("pair", work.key, pair), **pair} for pair in pairs]}


def plan(lake: Lake, stage: PairsStage, policy: Policy) -> Planned:
    """Plan one piece of work, or none if there are no latents yet."""
    tables = _tables(lake, stage.config, policy, [])
    count = tables["windows"].num_rows
    config = stage.config.identity()
    revision = stable_id("revision", stage.name, stage.version, config, policy)
    if not count:
        return Planned.of([], revision)
    content = [digest(tables[name].select(columns)) for name, columns in IDENTITY.items()]
    key = work_key(content, stage.name, stage.version, config)
    return Planned.of([Work(key, "pairs", f"pairs of {count} windows", policy)], revision)


def digest(rows: pa.Table) -> str:
    """Return a hash of rows with scalar columns that does not depend on the order of the rows."""
    ordered = rows.sort_by([(name, "ascending") for name in rows.column_names])
    hashed = hashlib.sha256(json.dumps(ordered.column_names).encode())
    for start in range(0, ordered.num_rows, CHUNK):
        hashed.update(json.dumps(list(ordered.slice(start, CHUNK).to_pydict().values())).encode())
    return hashed.hexdigest()


def gather(lake: Lake, config: PairsConfig, policy: Policy) -> Inputs:
    """Read the inputs of the pairs, for the clips that `policy` keeps.

    Uses the current revision of latents and captions, and of the current pose labels (one per landmark model) the one
    with the highest weight.
    """
    tables = {name: arrow_to_rows(data) for name, data in _tables(lake, config, policy, CLIP_COLUMNS).items()}
    return Inputs(
        {row["clip_id"]: row for row in tables["clips"]},
        sorted(tables["windows"], key=lambda row: (row["clip_id"], row["start_frame"])),
        {row["clip_id"]: row for row in tables["poses"]},
        {row["clip_id"]: [Term(**term) for term in row["camera_terms"]] for row in tables["captions"]},
        {row["capture_id"]: row for row in tables["captures"]},
        [(row["clip_id"], row["other_clip_id"]) for row in tables["copies"]],
        {(row["capture_id"], row["view"]): round(row["offset_frames"]) for row in tables["late"]},
    )


def _tables(lake: Lake, config: PairsConfig, policy: Policy, clip_columns: list[str]) -> dict[str, pa.Table]:
    """Read the rows of all tables that determine the pairs; `clip_columns`: extra columns of the clips."""
    clips = kept_clips(lake, policy, list(dict.fromkeys(["capture_id", *SIZE_COLUMNS, *clip_columns])))
    captures = lake.scan("captures", ["capture_id", "subject", "sync_method"])
    in_doubt = pc.is_in(captures["capture_id"], value_set=disagreeing(lake))  # then time offsets are in doubt, too
    sync_method = captures.column_names.index("sync_method")
    captures = captures.set_column(sync_method, "sync_method", pc.if_else(in_doubt, "single", captures["sync_method"]))

    def kept(rows: pa.Table) -> pa.Table:
        return rows.filter(pc.is_in(rows["clip_id"], value_set=clips["clip_id"]))

    if clip_columns:
        sources = lake.dataset("sources").to_table(columns=["source_id", *SOURCE_COLUMNS])
        for column in SOURCE_COLUMNS:
            clips = clips.append_column(column, look_up(clips["source_id"], sources, "source_id", column))
    caption_columns = ["camera_terms"] if clip_columns else []
    captions = kept(current_captions(lake, caption_columns))
    in_buckets = " OR ".join(
        "(" + " AND ".join(f"{name} = {n}" for name, n in asdict(window).items()) + ")" for window in config.windows
    )
    columns = ["clip_id", "start_frame", "caption_hash", *WINDOW_COLUMNS]
    windows = kept(newest(lake, "latents", columns, ["latent_id"], f"vae = '{config.vae}' AND ({in_buckets})"))
    windows = windows.filter(_in_bucket(windows, clips, config.windows))
    cameras = camera_verdicts(lake)
    late = pc.and_(pc.equal(cameras["verdict"], "late"), pc.is_in(cameras["capture_id"], value_set=clips["capture_id"]))
    current_hashes = look_up(windows["clip_id"], captions, "clip_id", "caption_hash")
    current = pc.equal(windows["caption_hash"], current_hashes)  # null, so filtered, in rows of older schemas
    return {
        "clips": clips,
        "windows": windows.filter(current),
        "poses": kept(best_poses(lake, [])),
        "captions": captions,
        "captures": captures.filter(pc.is_in(captures["capture_id"], value_set=clips["capture_id"])),
        "late": cameras.filter(late),
        "copies": links(lake, clips["clip_id"], []),
    }


def _in_bucket(windows: pa.Table, clips: pa.Table, buckets: Sequence[Window]) -> pa.Array:
    """Return a mask of the windows that are the bucket of their clip: before, it may have been encoded in another."""
    if len(buckets) == 1:
        return pa.array(np.ones(windows.num_rows, bool))
    bucket = {
        clip["clip_id"]: asdict(bucket_of(clip["width"], clip["height"], clip["frames"], buckets))
        for clip in clips.select(["clip_id", *SIZE_COLUMNS]).to_pylist()
    }
    rows = windows.select(["clip_id", *WINDOW_COLUMNS]).to_pylist()
    return pa.array([bucket[row.pop("clip_id")] == row for row in rows], pa.bool_())


def build_pairs(inputs: Inputs, config: PairsConfig) -> list[Row]:
    """Return all pairs, in a stable order, with their split. The result depends on the arguments only."""
    views: dict[str, list[Row]] = defaultdict(list)  # by capture
    for clip_id in sorted(inputs.clips):
        views[inputs.clips[clip_id]["capture_id"]].append(inputs.clips[clip_id])
    pairs = []
    for window in inputs.windows:
        target, start = inputs.clips[window["clip_id"]], window["start_frame"]
        if target["resynthesis_of"]:
            continue
        shape = Window(**{name: window[name] for name in WINDOW_COLUMNS})
        moving = camera_moves(inputs.terms.get(target["clip_id"], []), start, start + shape.span)
        for driving in views[target["capture_id"]]:
            same = driving["clip_id"] == target["clip_id"]
            if not same and not (_same_rate(driving, target) and _shows_same_moments(driving, target, inputs.captures)):
                continue
            shift = _capture_frame(target, inputs) - _capture_frame(driving, inputs)
            driving_start = start if same else start + shift
            if not _person_visible(driving, driving_start, shape, config.seen):
                continue
            kind = "same_view" if same else "moving_camera" if moving else "cross_view"
            if driving["resynthesis_of"]:
                kind = "resynthesised"
            pose = inputs.poses.get(driving["clip_id"])
            pairs.append(
                {
                    "kind": kind,
                    "driving_clip_id": driving["clip_id"],
                    "driving_start": driving_start,
                    "target_clip_id": target["clip_id"],
                    "target_start": start,
                    "num_frames": shape.num_frames,
                    "frame_step": shape.frame_step,
                    "latent_id": window["latent_id"],
                    "pose_id": pose["pose_id"] if pose else None,
                    "source_kind": target["kind"],
                    "capture_id": target["capture_id"],
                    "subject": _subject(target, inputs.captures),
                    "weight": pose["weight"] if pose else 0.0,
                }
            )
    contents = {clip_id: clip["content_sha256"] for clip_id, clip in inputs.clips.items()}
    sides = splits(pairs, contents, config.test_share, inputs.copies)
    return [{**pair, "split": side, "split_group": group} for pair, (group, side) in zip(pairs, sides, strict=True)]


def _capture_frame(clip: Row, inputs: Inputs) -> int:
    """Return the capture time of a clip's first frame, in frames, corrected for the delay of a late view."""
    return int(clip["start_frame"]) - inputs.late.get((clip["capture_id"], clip["view"]), 0)


def _shows_same_moments(driving: Row, target: Row, captures: dict[str, Row]) -> bool:
    """Return whether two clips are a re-rendering and its original, or different, synchronised views of one capture."""
    synchronised = captures[target["capture_id"]]["sync_method"] != "single"
    return driving["view"] != target["view"] and (synchronised or bool(driving["resynthesis_of"]))


def _same_rate(a: Row, b: Row) -> bool:
    return bool(a["fps_num"] * b["fps_den"] == b["fps_num"] * a["fps_den"])


def _person_visible(clip: Row, start: int, window: Window, share: float) -> bool:
    """Return whether the window lies in the clip and shows the person in at least this share of its frames."""
    if start < 0 or start + window.span > clip["frames"]:
        return False
    track = clip["track"][start : start + window.span : window.frame_step]  # [T, 4], NaN if not visible
    return float(np.isfinite(track).all(axis=1).mean()) >= share


def _subject(clip: Row, captures: dict[str, Row]) -> str | None:
    capture = captures.get(clip["capture_id"])
    subject: str | None = (capture or clip)["subject"]
    return subject
