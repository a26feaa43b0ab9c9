"""Training pairs: the motion of one window, the pixels of another.

`same_view` is self-reconstruction; `cross_view` and `moving_camera` show one performance over one span of time from
two cameras, and differ in whether the camera of the target stands or moves (by its camera terms).
"""

import hashlib
import json
from collections import defaultdict
from dataclasses import asdict, dataclass, field
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
from opendimo.pipelines.latents.windows import Window
from opendimo.pipelines.pairs.splits import splits
from opendimo.pipelines.quality.policy import Policy
from opendimo.pipelines.quality.repeats import links
from opendimo.pipelines.quality.verdicts import kept_clips
from opendimo.pipelines.rigs.current import camera_verdicts
from opendimo.storage_schemas.ids import stable_id, work_key
from opendimo.storage_schemas.lake.lake import Lake
from opendimo.storage_schemas.rows import arrow_to_rows

Row = dict[str, Any]
CLIP_COLUMNS = [
    "source_id", "capture_id", "view", "kind", "subject", "start_frame", "frames", "fps_num", "fps_den", "track",
]  # fmt: skip


@dataclass(frozen=True)
class PairsConfig:
    """Which latents to pair, and what is held out for testing.

    `vae` is `LatentsStage.vae`. `test_share` of the subjects (or captures of unknown subjects) are held out, and unless
    it is 0 at least one for each kind of pair where one can be spared. A driving window needs the person in `seen` of
    its frames.
    """

    vae: str
    window: Window = field(default_factory=Window)
    test_share: float = 0.1
    seen: float = 0.75


@dataclass(frozen=True)
class Inputs:
    """What pairs are made of: kept clips by id, their newest latents, best pose and camera terms, captures by id; and
    which clips have footage in common; and by how many frames which views of a capture are late."""

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
"""The columns of each table that decide a set of pairs."""


class PairsStage:
    """Writes `pairs`. The whole set is one piece of work, so a set is either there or not; a set made of other labels
    is a set of its own, told apart by its work key."""

    name = "pairs"
    version = "4"  # 4: camera terms that hold in the window decide the kind; held-out pairs of each kind
    weights = ""
    needs = Needs(cpus=1, memory_gb=4, seconds=24 * 3600)

    def __init__(self, lake_uri: str, config: PairsConfig) -> None:
        self.lake_uri, self.config = lake_uri, config

    def setup(self) -> None:
        """Nothing to load."""

    def run(self, batch: list[Work]) -> Outcome:
        """Write the set."""
        return run_each(batch, self._write_set)

    def _write_set(self, work: Work) -> dict[str, list[Row]]:
        pairs = build_pairs(gather(Lake(self.lake_uri), self.config, work.payload["policy"]), self.config)
        if not pairs:
            raise DataError("no pair can be made: in no window with latents is the person seen; see `dimo status`")
        return {"pairs": [{"pair_id": stable_id("pair", work.key, pair), **pair} for pair in pairs]}


def plan(lake: Lake, stage: PairsStage, policy: Policy) -> Planned:
    """One piece of work, or none where there are no latents yet."""
    parts = _parts(lake, stage.config, policy, [])
    count = parts["windows"].num_rows
    revision = stable_id("revision", stage.name, stage.version, stage.config, policy)
    if not count:
        return Planned.of([], revision)
    content = [digest(parts[name].select(columns)) for name, columns in IDENTITY.items()]
    key = work_key(content, stage.name, stage.version, stage.config)
    return Planned.of([Work(key, "pairs", f"pairs of {count} windows", {"policy": policy})], revision)


def digest(rows: pa.Table) -> str:
    """Hash of a set of rows of scalar columns, in whatever order they come."""
    ordered = rows.sort_by([(name, "ascending") for name in rows.column_names])
    hashed = hashlib.sha256(json.dumps(ordered.column_names).encode())
    for start in range(0, ordered.num_rows, CHUNK):
        hashed.update(json.dumps(list(ordered.slice(start, CHUNK).to_pydict().values())).encode())
    return hashed.hexdigest()


def gather(lake: Lake, config: PairsConfig, policy: Policy) -> Inputs:
    """Read what the pairs of the clips that `policy` keeps are made of.

    Of several revisions the current latents and caption count, and of the current pose labels (one per
    landmark model) that of the highest weight.
    """
    parts = {name: arrow_to_rows(data) for name, data in _parts(lake, config, policy, CLIP_COLUMNS).items()}
    return Inputs(
        {row["clip_id"]: row for row in parts["clips"]},
        sorted(parts["windows"], key=lambda row: (row["clip_id"], row["start_frame"])),
        {row["clip_id"]: row for row in parts["poses"]},
        {row["clip_id"]: [Term(**term) for term in row["camera_terms"]] for row in parts["captions"]},
        {row["capture_id"]: row for row in parts["captures"]},
        [(row["clip_id"], row["other_clip_id"]) for row in parts["copies"]],
        {(row["capture_id"], row["view"]): round(row["offset_frames"]) for row in parts["late"]},
    )


def _parts(lake: Lake, config: PairsConfig, policy: Policy, clip_columns: list[str]) -> dict[str, pa.Table]:
    """The rows of all tables that matter; of clips, these columns."""
    clips = kept_clips(lake, policy, ["capture_id", *clip_columns])
    captures = lake.scan("captures", ["capture_id", "subject", "sync_method"])

    def kept(rows: pa.Table) -> pa.Table:
        return rows.filter(pc.is_in(rows["clip_id"], value_set=clips["clip_id"]))

    if clip_columns:
        sources = lake.dataset("sources").to_table(columns=["source_id", "content_sha256"])
        content = look_up(clips["source_id"], sources, "source_id", "content_sha256")
        clips = clips.append_column("content_sha256", content)
    terms = ["camera_terms"] if clip_columns else []
    captions = kept(current_captions(lake, terms))
    wanted = " AND ".join([f"vae = '{config.vae}'", *(f"{name} = {n}" for name, n in asdict(config.window).items())])
    windows = kept(newest(lake, "latents", ["clip_id", "start_frame", "caption_hash"], ["latent_id"], wanted))
    cameras = camera_verdicts(lake)
    late = pc.and_(pc.equal(cameras["verdict"], "late"), pc.is_in(cameras["capture_id"], value_set=clips["capture_id"]))
    of_caption = look_up(windows["clip_id"], captions, "clip_id", "caption_hash")
    current = pc.equal(windows["caption_hash"], of_caption)  # null, and so left out, in rows of older schemas
    return {
        "clips": clips,
        "windows": windows.filter(current),
        "poses": kept(best_poses(lake, [])),
        "captions": captions,
        "captures": captures.filter(pc.is_in(captures["capture_id"], value_set=clips["capture_id"])),
        "late": cameras.filter(late),
        "copies": links(lake, clips["clip_id"], []),
    }


def build_pairs(inputs: Inputs, config: PairsConfig) -> list[Row]:
    """All pairs, in a stable order, with their split. Pure: same inputs, same pairs."""
    views: dict[str, list[Row]] = defaultdict(list)  # by capture
    for clip_id in sorted(inputs.clips):
        views[inputs.clips[clip_id]["capture_id"]].append(inputs.clips[clip_id])
    pairs = []
    for window in inputs.windows:
        target, start = inputs.clips[window["clip_id"]], window["start_frame"]
        moves = camera_moves(inputs.terms.get(target["clip_id"], []), start, start + config.window.span)
        for driving in views[target["capture_id"]]:
            same = driving["clip_id"] == target["clip_id"]
            if not same and not _same_time(driving, target, inputs.captures):
                continue
            shift = _moment(target, inputs) - _moment(driving, inputs)
            driving_start = start if same else start + shift
            if not _person_seen(driving, driving_start, config):
                continue
            kind = "same_view" if same else "moving_camera" if moves else "cross_view"
            pose = inputs.poses.get(driving["clip_id"])
            pairs.append(
                {
                    "kind": kind,
                    "driving_clip_id": driving["clip_id"],
                    "driving_start": driving_start,
                    "target_clip_id": target["clip_id"],
                    "target_start": start,
                    "num_frames": config.window.num_frames,
                    "frame_step": config.window.frame_step,
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


def _moment(clip: Row, inputs: Inputs) -> int:
    """The moment of its capture that a clip's first frame shows, frames: a late view shows an earlier one."""
    return int(clip["start_frame"]) - inputs.late.get((clip["capture_id"], clip["view"]), 0)


def _same_time(driving: Row, target: Row, captures: dict[str, Row]) -> bool:
    """Whether two clips of one capture share time: other view, same clock, same frame rate."""
    synchronised = captures[target["capture_id"]]["sync_method"] != "single"
    rates = driving["fps_num"] * target["fps_den"] == target["fps_num"] * driving["fps_den"]
    return driving["view"] != target["view"] and synchronised and rates


def _person_seen(clip: Row, start: int, config: PairsConfig) -> bool:
    """Whether the window lies in the clip and shows the person often enough to read motion from it."""
    window = config.window
    if start < 0 or start + window.span > clip["frames"]:
        return False
    track = clip["track"][start : start + window.span : window.frame_step]  # [T, 4], NaN where unseen
    return float(np.isfinite(track).all(axis=1).mean()) >= config.seen


def _subject(clip: Row, captures: dict[str, Row]) -> str | None:
    capture = captures.get(clip["capture_id"])
    subject: str | None = (capture or clip)["subject"]
    return subject
