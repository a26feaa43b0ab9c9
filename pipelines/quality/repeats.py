"""What the stored evidence means: which clips are left out, and which belong on one side of a split."""

from collections import defaultdict
from functools import partial

import pyarrow as pa
import pyarrow.compute as pc

from opendimo.pipelines.engine.columns import Column, distinct, last_of, look_up
from opendimo.pipelines.quality.policy import Policy
from opendimo.storage_schemas.lake.lake import Lake
from opendimo.storage_schemas.lake.ledger import newest_first

EVIDENCE = ["representative_id", "mirrored", "start_frame", "end_frame", "similarity", "distance"]


def repeats(lake: Lake, clips: pa.Table, policy: Policy) -> Column:
    """Of `clips` (`clip_id`, `frames`), those of which clips that are kept show as much as `policy` says.

    What is no clip of the table repeats nothing: where a better copy is filtered, the next best is kept.
    """
    found = links(lake, clips["clip_id"], EVIDENCE)
    fit = pc.and_(
        pc.greater_equal(found["similarity"], policy.duplicate_similarity),
        pc.less_equal(found["distance"], policy.duplicate_distance),
    )
    found = found.filter(pc.and_not(fit, found["mirrored"]) if policy.keep_mirrored else fit)
    first = pc.equal(found["clip_id"], found["representative_id"])
    worse = pc.if_else(first, found["other_clip_id"], found["clip_id"])
    shown: dict[str, list[tuple[str, int, int]]] = defaultdict(list)
    columns = (worse, *(found[name] for name in ("representative_id", "start_frame", "end_frame")))
    for clip_id, better, start, end in zip(*(c.to_pylist() for c in columns), strict=True):
        shown[clip_id].append((better, start, end))
    known = clips.filter(pc.is_in(clips["clip_id"], value_set=pa.array(list(shown), pa.string())))
    frames = dict(zip(*(known[name].to_pylist() for name in ("clip_id", "frames")), strict=True))
    return pa.array(sorted(left_out(shown, frames, policy.duplicate_share)), pa.string())


def left_out(shown: dict[str, list[tuple[str, int, int]]], frames: dict[str, int], share: float) -> set[str]:
    """Of each clip, `shown` says which better clips show its frames [start, end). Better is a total order, so whoever
    is shown by none but the decided can be decided: better clips first."""
    out: set[str] = set()
    open_ = dict(shown)
    while open_:
        now = [clip_id for clip_id, by in open_.items() if not any(better in open_ for better, _, _ in by)]
        if not now:
            raise AssertionError("clips are better than each other in a circle")
        for clip_id in now:
            kept = [(start, end) for better, start, end in shown[clip_id] if better not in out]
            if _length(kept) >= share * frames[clip_id]:
                out.add(clip_id)
        for clip_id in now:
            del open_[clip_id]
    return out


def links(lake: Lake, among: Column, columns: list[str]) -> pa.Table:
    """Pairs of clips of `among` with footage in common, mirrored or not: `clip_id`, `other_clip_id` and `columns` of
    the current comparison of each clip."""
    wanted = ["clip_id", "other_clip_id", "work_key", "run_id", *columns]
    data = lake.dataset("duplicates").to_table(columns=wanted)
    works = distinct(data.select(["clip_id", "work_key", "run_id"]), ["clip_id", "work_key"])
    by_run = partial(newest_first, lake, "duplicates")
    current = last_of(works, ["clip_id"], lambda rows: [*by_run(rows["run_id"]), rows["work_key"]])
    data = data.filter(pc.is_valid(data["other_clip_id"]))
    data = data.filter(pc.equal(data["work_key"], look_up(data["clip_id"], current, "clip_id", "work_key")))
    both = pc.and_(*(pc.is_in(data[name], value_set=among) for name in ("clip_id", "other_clip_id")))
    return data.filter(both).select(["clip_id", "other_clip_id", *columns])


def _length(spans: list[tuple[int, int]]) -> int:
    """Frames in any of some spans."""
    total, reached = 0, 0
    for start, end in sorted(spans):
        total += max(0, end - max(start, reached))
        reached = max(reached, end)
    return total
