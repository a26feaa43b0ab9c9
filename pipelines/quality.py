"""Which clips are good enough: a query over stored scores, so that changing a threshold recomputes nothing."""

from dataclasses import dataclass
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.columns import Column, distinct, last_of, look_up
from storage_schemas.lake import Lake
from storage_schemas.ledger import newest_first
from storage_schemas.takedown import taken_down


@dataclass(frozen=True)
class Policy:
    """Thresholds; see the columns of `clips` for what they compare with.

    Lengths are in frames, `min_person_height` over the frame height, light from 0 (black) to 1.
    """

    min_frames: int = 17
    max_people: float = 1.0
    min_person_share: float = 0.8
    min_person_height: float = 0.25
    min_exposure: float = 0.08
    max_exposure: float = 0.95
    min_sharpness: float = 20.0


SCORES = ["frames", "video_sha256", "people", "person_share", "person_height", "exposure", "sharpness"]
ORIGIN = ["source_id", "work_key", "run_id"]


def verdicts(lake: Lake, policy: Policy) -> pa.Table:
    """`clip_id` and `reason` of every clip, in order of it: the first reason why it is filtered, null where it is kept.

    Clips of a source that was taken down, and those that a later run cut anew (`superseded`), are filtered whatever
    their scores.
    """
    clips = lake.scan("clips", ["clip_id", *SCORES, *ORIGIN])
    return pa.table({"clip_id": clips["clip_id"], "reason": _reasons(lake, clips, policy)})


def kept_clips(lake: Lake, policy: Policy, columns: list[str] | None = None) -> pa.Table:
    """The clips that are kept: `clip_id` and the columns named, in storage order."""
    wanted = list(dict.fromkeys(["clip_id", *(columns or [])]))
    clips = lake.dataset("clips").to_table(columns=list(dict.fromkeys([*wanted, *SCORES, *ORIGIN])))
    return clips.select(wanted).filter(pc.is_null(_reasons(lake, clips, policy)))


def reasons(clips: pa.Table, policy: Policy) -> pa.Array:
    """Why each clip is filtered by its scores, the first reason that holds; null: keep it."""
    rules = {
        "too_short": pc.less(clips["frames"], policy.min_frames),
        "no_person": pc.is_null(clips["video_sha256"]),
        "several_people": pc.greater(clips["people"], policy.max_people),
        "person_too_small": pc.less(clips["person_height"], policy.min_person_height),
        "person_leaves": pc.less(clips["person_share"], policy.min_person_share),
        "too_dark": pc.less(clips["exposure"], policy.min_exposure),
        "too_bright": pc.greater(clips["exposure"], policy.max_exposure),
        "blurred": pc.less(clips["sharpness"], policy.min_sharpness),
    }
    return _first_reason(rules)


def _reasons(lake: Lake, clips: pa.Table, policy: Policy) -> pa.Array:
    down = pc.is_in(clips["source_id"], value_set=taken_down(lake))
    outside = _first_reason({"taken_down": down, "superseded": _superseded(lake, clips)})
    return pc.coalesce(outside, reasons(clips, policy))


def _superseded(lake: Lake, clips: pa.Table) -> Column:
    """Whether another work key than the clip's own is the current cut of its source."""
    cuts = distinct(clips.select(["source_id", "work_key"]), ["source_id", "work_key"])
    if pc.count_distinct(cuts["source_id"]).as_py() == cuts.num_rows:  # as a rule: every source was cut once
        return pa.array(np.zeros(clips.num_rows, bool))
    by_run = partial(newest_first, lake, "clips")
    runs = distinct(clips.select(ORIGIN), ORIGIN)
    current = last_of(runs, ["source_id"], lambda rows: [*by_run(rows["run_id"]), rows["work_key"]])
    return pc.not_equal(clips["work_key"], look_up(clips["source_id"], current, "source_id", "work_key"))


def _first_reason(rules: dict[str, Column]) -> pa.Array:
    """The name of the first rule that holds in each row, or null."""
    columns = [pa.chunked_array(rule).combine_chunks() for rule in rules.values()]
    holds = pa.StructArray.from_arrays(columns, list(rules))
    return pc.case_when(holds, *(pa.scalar(name) for name in rules))
