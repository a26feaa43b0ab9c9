"""Which clips are good enough: a query over stored scores, so that changing a threshold recomputes nothing."""

from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from opendimo.pipelines.engine.columns import Column, distinct, last_of, look_up
from opendimo.pipelines.quality.policy import OPTIONAL, Policy, score_columns
from opendimo.pipelines.quality.repeats import repeats
from opendimo.pipelines.rigs.current import camera_verdicts
from opendimo.storage_schemas.lake.lake import Lake
from opendimo.storage_schemas.lake.ledger import newest_first
from opendimo.storage_schemas.lake.takedown import taken_down

ORIGIN = ["source_id", "capture_id", "view", "work_key", "run_id"]


def verdicts(lake: Lake, policy: Policy) -> pa.Table:
    """`clip_id` and `reason` of every clip, in order of it: the first reason why it is filtered, null where it is kept.

    Clips of a source that was taken down, those that a later run cut anew (`superseded`), and those of a camera that
    `rigs` quarantines, are filtered whatever their scores.
    """
    clips = lake.scan("clips", ["clip_id", *score_columns(policy), *ORIGIN])
    return pa.table({"clip_id": clips["clip_id"], "reason": _reasons(lake, clips, policy)})


def kept_clips(lake: Lake, policy: Policy, columns: list[str] | None = None) -> pa.Table:
    """The clips that are kept: `clip_id` and the columns named, in storage order."""
    wanted = list(dict.fromkeys(["clip_id", *(columns or [])]))
    clips = lake.dataset("clips").to_table(columns=list(dict.fromkeys([*wanted, *score_columns(policy), *ORIGIN])))
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
    return pc.coalesce(_first_reason(rules), *(_beyond(clips, policy, limit) for limit in OPTIONAL))


def _beyond(clips: pa.Table, policy: Policy, limit: str) -> pa.Array | pa.Scalar:
    """The reason of an optional limit where a clip is beyond it."""
    value = getattr(policy, limit)
    if value is None:
        return pa.scalar(None, pa.string())
    compare = pc.less if limit.startswith("min_") else pc.greater
    return _first_reason({OPTIONAL[limit]: compare(clips[limit[4:]], value)})


def _reasons(lake: Lake, clips: pa.Table, policy: Policy) -> pa.Array:
    down = pc.is_in(clips["source_id"], value_set=taken_down(lake))
    superseded, quarantined = _superseded(lake, clips), _quarantined(lake, clips)
    outside = _first_reason({"taken_down": down, "superseded": superseded, "camera_quarantined": quarantined})
    own = pc.coalesce(outside, reasons(clips, policy))
    repeated = repeats(lake, clips.select(["clip_id", "frames"]).filter(pc.is_null(own)), policy)
    return pc.coalesce(own, _first_reason({"duplicate": pc.is_in(clips["clip_id"], value_set=repeated)}))


def _superseded(lake: Lake, clips: pa.Table) -> Column:
    """Whether another work key than the clip's own is the current cut of its source."""
    cuts = distinct(clips.select(["source_id", "work_key"]), ["source_id", "work_key"])
    if pc.count_distinct(cuts["source_id"]).as_py() == cuts.num_rows:  # as a rule: every source was cut once
        return pa.array(np.zeros(clips.num_rows, bool))
    by_run = partial(newest_first, lake, "clips")
    runs = distinct(clips.select(ORIGIN), ORIGIN)
    current = last_of(runs, ["source_id"], lambda rows: [*by_run(rows["run_id"]), rows["work_key"]])
    return pc.not_equal(clips["work_key"], look_up(clips["source_id"], current, "source_id", "work_key"))


def _quarantined(lake: Lake, clips: pa.Table) -> Column:
    """Whether the current measurement of its rig says that a clip's camera is not where its calibration says."""
    cameras = camera_verdicts(lake)
    bad = cameras.filter(pc.equal(cameras["verdict"], "quarantined"))
    if not bad.num_rows:  # as a rule
        return pa.array(np.zeros(clips.num_rows, bool))
    whose, which = (pc.binary_join_element_wise(rows["capture_id"], rows["view"], "\n") for rows in (bad, clips))
    return pc.is_in(which, value_set=whose)


def _first_reason(rules: dict[str, Column]) -> pa.Array:
    """The name of the first rule that holds in each row, or null."""
    columns = [pa.chunked_array(rule).combine_chunks() for rule in rules.values()]
    holds = pa.StructArray.from_arrays(columns, list(rules))
    return pc.case_when(holds, *(pa.scalar(name) for name in rules))
