"""Training pairs: the motion of one window, the pixels of another.

`same_view` is self-reconstruction; `cross_view` and `moving_camera` show one performance over one span of time from
two cameras, and differ in whether the camera of the target stands or moves (by its camera terms).
"""

from collections import defaultdict
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from pipelines.latents import newest
from pipelines.quality import Policy, kept_clips
from pipelines.stage import DataError, Needs, Outcome, Work, run_each
from pipelines.windows import Window
from storage_schemas.ids import stable_id, work_key
from storage_schemas.lake import Lake

Row = dict[str, Any]
CLIP_COLUMNS = ["capture_id", "view", "kind", "subject", "start_frame", "frames", "fps_num", "fps_den", "track"]
STANDING = ("static", "shake")  # camera terms of a camera that stays where it is and looks where it looked


@dataclass(frozen=True)
class PairsConfig:
    """Which latents to pair (`vae` is `LatentsStage.vae`), and the share of subjects (or captures of unknown subjects)
    kept for testing. A driving window needs the person in `seen` of its frames."""

    vae: str
    window: Window = field(default_factory=Window)
    test_share: float = 0.1
    seen: float = 0.75


@dataclass(frozen=True)
class Inputs:
    """What pairs are made of: kept clips by id, their newest latents, best pose and camera terms, captures by id."""

    clips: dict[str, Row]
    windows: list[Row]
    poses: dict[str, Row]
    terms: dict[str, list[Row]]
    captures: dict[str, Row]


class PairsStage:
    """Writes `pairs`. The whole set is one piece of work, so a set is either there or not; a set made of other labels
    is a set of its own, told apart by its work key."""

    name = "pairs"
    version = "1"
    weights = ""
    needs = Needs(cpus=1, memory_gb=4)

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


def plan(lake: Lake, stage: PairsStage, policy: Policy) -> list[Work]:
    """One piece of work, or none where there are no latents yet."""
    inputs = gather(lake, stage.config, policy)
    if not inputs.windows:
        return []
    content = (
        sorted(inputs.clips),
        sorted(row["latent_id"] for row in inputs.windows),
        sorted(row["pose_id"] for row in inputs.poses.values()),
        sorted(inputs.terms.items()),
        sorted((row["capture_id"], row["subject"], row["sync_method"]) for row in inputs.captures.values()),
    )
    key = work_key(content, stage.name, stage.version, stage.config)
    return [Work(key, "pairs", f"pairs of {len(inputs.windows)} windows", {"policy": policy})]


def gather(lake: Lake, config: PairsConfig, policy: Policy) -> Inputs:
    """Read what the pairs of the clips that `policy` keeps are made of.

    Of several revisions the latents and the caption committed last count, and the pose label of the highest weight.
    """
    clips = {row["clip_id"]: row for row in kept_clips(lake, policy, CLIP_COLUMNS)}
    captions = newest(lake, "captions", ["camera_terms", "text"], lambda row: row["clip_id"])
    wanted = {"vae": config.vae, **asdict(config.window)}
    latents = newest(
        lake,
        "latents",
        ["latent_id", "start_frame", "text", *wanted],
        lambda row: (row["clip_id"], row["start_frame"], row["text"], *(row[name] for name in wanted)),
    )
    windows = [
        latents[key]
        for key in sorted(latents)
        if key[0] in clips and latents[key]["text"] == captions[key[0]]["text"] and key[3:] == tuple(wanted.values())
    ]
    poses: dict[str, Row] = {}
    for row in sorted(lake.read("poses", ["pose_id", "clip_id", "weight"]), key=lambda r: (r["weight"], r["pose_id"])):
        if row["clip_id"] in clips:
            poses[row["clip_id"]] = row
    return Inputs(
        clips,
        windows,
        poses,
        {clip_id: row["camera_terms"] for clip_id, row in captions.items() if clip_id in clips},
        {row["capture_id"]: row for row in lake.read("captures", ["capture_id", "subject", "sync_method"])},
    )


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
            driving_start = start if same else start + target["start_frame"] - driving["start_frame"]
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
    test = test_groups(pairs, config.test_share)
    return [{**pair, "split": "test" if _group(pair) in test else "train"} for pair in pairs]


def test_groups(pairs: list[Row], share: float) -> set[str]:
    """The subjects (or captures of unknown subjects) kept for testing: about `share` of them, by hash, so that one
    never changes sides when others come or go, but never the last one that can train a kind of pair."""
    groups: dict[str, set[str]] = defaultdict(set)  # kind -> groups that have it
    for pair in pairs:
        groups[pair["kind"]].add(_group(pair))
    chance = {group: int(stable_id("split", group)[:8], 16) / 2**32 for group in set().union(*groups.values())}
    test: set[str] = set()
    for group in sorted((g for g in chance if chance[g] < share), key=lambda g: chance[g]):
        if all(kind_groups - test - {group} for kind_groups in groups.values() if group in kind_groups):
            test.add(group)
    return test


def camera_moves(terms: list[Row], start: int, stop: int) -> bool:
    """Whether a camera term within clip frames [start, stop) is one of motion."""
    return any(t["term"] not in STANDING and t["start_frame"] < stop and t["end_frame"] > start for t in terms)


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


def _group(pair: Row) -> str:
    return pair["subject"] or pair["capture_id"]
