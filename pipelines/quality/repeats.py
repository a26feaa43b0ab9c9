"""Interpret the stored evidence of duplicates: which clips to leave out, and which must be on one side of a split."""

from collections import defaultdict
from functools import partial

import pyarrow as pa
import pyarrow.compute as pc

from opendimo.pipelines.engine.columns import Column, distinct, last_of, look_up
from opendimo.pipelines.quality.policy import Policy
from opendimo.storage_schemas.lake.lake import Lake
from opendimo.storage_schemas.lake.ledger import newest_first

EVIDENCE = ["kind", "representative_id", "mirrored", "start_frame", "end_frame", "similarity", "distance"]


def repeats(lake: Lake, clips: pa.Table, policy: Policy) -> Column:
    """Return the ids of the duplicates among `clips` (`clip_id`, `frames`), by the thresholds of `policy`.

    Only clips of this table count as originals: if a better copy is filtered, the next best is kept.
    """
    evidence = links(lake, clips["clip_id"], EVIDENCE)
    evidence = evidence.filter(pc.not_equal(evidence["kind"], "crop"))  # another picture, but the same side of a split
    is_copy = pc.and_(
        pc.greater_equal(evidence["similarity"], policy.duplicate_similarity),
        pc.less_equal(evidence["distance"], policy.duplicate_distance),
    )
    evidence = evidence.filter(pc.and_not(is_copy, evidence["mirrored"]) if policy.keep_mirrored else is_copy)
    is_better = pc.equal(evidence["clip_id"], evidence["representative_id"])
    worse = pc.if_else(is_better, evidence["other_clip_id"], evidence["clip_id"])
    shown: dict[str, list[tuple[str, int, int]]] = defaultdict(list)
    columns = (worse, *(evidence[name] for name in ("representative_id", "start_frame", "end_frame")))
    for clip_id, better, start, end in zip(*(c.to_pylist() for c in columns), strict=True):
        shown[clip_id].append((better, start, end))
    repeated_clips = clips.filter(pc.is_in(clips["clip_id"], value_set=pa.array(list(shown), pa.string())))
    frames = dict(zip(*(repeated_clips[name].to_pylist() for name in ("clip_id", "frames")), strict=True))
    return pa.array(sorted(left_out(shown, frames, policy.duplicate_share)), pa.string())


def left_out(shown: dict[str, list[tuple[str, int, int]]], frames: dict[str, int], share: float) -> set[str]:
    """Return the clips of which better, kept clips show at least `share` of the `frames`.

    `shown`: by clip, the better clips that show its frames [start, end). "Better" is a total order, so clips are
    decided from the best: a clip is decided once all clips that show it are.
    """
    duplicates: set[str] = set()
    undecided = dict(shown)
    while undecided:
        decidable = [
            clip_id for clip_id, by in undecided.items() if not any(better in undecided for better, _, _ in by)
        ]
        if not decidable:
            raise AssertionError("the order of duplicates has a cycle: some clips are better than each other")
        for clip_id in decidable:
            kept = [(start, end) for better, start, end in shown[clip_id] if better not in duplicates]
            if _covered_frames(kept) >= share * frames[clip_id]:
                duplicates.add(clip_id)
        for clip_id in decidable:
            del undecided[clip_id]
    return duplicates


def links(lake: Lake, among: Column, columns: list[str]) -> pa.Table:
    """Return the pairs of clips in `among` that share footage, mirrored or not.

    The result has `clip_id`, `other_clip_id` and `columns` of the current comparison of each clip.
    """
    selected_columns = ["clip_id", "other_clip_id", "work_key", "run_id", *columns]
    data = lake.dataset("duplicates").to_table(columns=selected_columns)
    works = distinct(data.select(["clip_id", "work_key", "run_id"]), ["clip_id", "work_key"])
    by_run = partial(newest_first, lake, "duplicates")
    current = last_of(works, ["clip_id"], lambda rows: [*by_run(rows["run_id"]), rows["work_key"]])
    data = data.filter(pc.is_valid(data["other_clip_id"]))
    data = data.filter(pc.equal(data["work_key"], look_up(data["clip_id"], current, "clip_id", "work_key")))
    both = pc.and_(*(pc.is_in(data[name], value_set=among) for name in ("clip_id", "other_clip_id")))
    return data.filter(both).select(["clip_id", "other_clip_id", *columns])


def _covered_frames(spans: list[tuple[int, int]]) -> int:
    """Count the frames in the union of spans [start, end)."""
    total, reached = 0, 0
    for start, end in sorted(spans):
        total += max(0, end - max(start, reached))
        reached = max(reached, end)
    return total
