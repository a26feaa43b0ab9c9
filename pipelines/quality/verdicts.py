"""Decide which clips to keep, by a query over stored scores: changing a threshold recomputes nothing."""

from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from opendimo.pipelines.engine.columns import Column, distinct, last_of, look_up
from opendimo.pipelines.quality.policy import OPTIONAL, Policy, score_columns
from opendimo.pipelines.quality.repeats import repeats
from opendimo.pipelines.quality.scores import clip_columns
from opendimo.pipelines.rigs.current import QUARANTINED, camera_verdicts, disagreeing, not_metric
from opendimo.storage_schemas.lake.lake import Lake
from opendimo.storage_schemas.lake.ledger import newest_first
from opendimo.storage_schemas.lake.takedown import taken_down

ORIGIN = ["source_id", "capture_id", "view", "work_key", "run_id"]
FACTS = [*ORIGIN, "metric"]


def verdicts(lake: Lake, policy: Policy) -> pa.Table:
    """Return `clip_id` and `reason` of every clip, sorted by id: the first reason to filter it, null if it is kept.

    Regardless of their scores, clips are filtered if their source was taken down, if a later run cut their source again
    (`superseded`), or if `rigs` quarantined their camera or found that its lengths are not the stated metres
    (`wrong_scale`).
    """
    clips = clip_columns(lake, [*score_columns(policy), *FACTS]).sort_by("clip_id")
    return pa.table({"clip_id": clips["clip_id"], "reason": _reasons(lake, clips, policy)})


def kept_clips(lake: Lake, policy: Policy, columns: list[str] | None = None) -> pa.Table:
    """Return `clip_id` and `columns` of the clips that are kept, in storage order."""
    selected_columns = list(dict.fromkeys(["clip_id", *(columns or [])]))
    clips = clip_columns(lake, [*selected_columns, *score_columns(policy), *FACTS])
    return clips.select(selected_columns).filter(pc.is_null(_reasons(lake, clips, policy)))


def reasons(clips: pa.Table, policy: Policy) -> pa.Array:
    """Return the first reason to filter each clip by its scores; null if it passes all thresholds."""
    rules = {
        "too_short": pc.less(clips["frames"], policy.min_frames),
        "no_person": pc.is_null(clips["video_sha256"]),
        "several_people": _several_people(clips, policy),
        "person_too_small": pc.less(clips["person_height"], policy.min_person_height),
        "person_leaves": pc.less(clips["person_share"], policy.min_person_share),
        "too_dark": pc.less(clips["exposure"], policy.min_exposure),
        "too_bright": pc.greater(clips["exposure"], policy.max_exposure),
        "blurred": pc.less(clips["sharpness"], policy.min_sharpness),
    }
    return pc.coalesce(_first_reason(rules), *(_optional_reason(clips, policy, limit) for limit in OPTIONAL))


def _several_people(clips: pa.Table, policy: Policy) -> Column:
    several = pc.greater(clips["people"], policy.max_people)
    if policy.max_people >= 2:
        return several
    return pc.or_kleene(several, pc.greater(clips["second_share"], policy.max_second_share))


def _optional_reason(clips: pa.Table, policy: Policy, limit: str) -> pa.Array | pa.Scalar:
    """Return the reason of an optional limit for clips that violate it, else null."""
    value = getattr(policy, limit)
    if value is None:
        return pa.scalar(None, pa.string())
    compare = pc.less if limit.startswith("min_") else pc.greater
    return _first_reason({OPTIONAL[limit]: compare(clips[limit[4:]], value)})


def _reasons(lake: Lake, clips: pa.Table, policy: Policy) -> pa.Array:
    is_taken_down = pc.is_in(clips["source_id"], value_set=taken_down(lake))
    wrong_scale = pc.and_(pc.fill_null(clips["metric"], False), pc.is_in(clips["capture_id"], not_metric(lake)))
    origin_reasons = _first_reason(
        {
            "taken_down": is_taken_down,
            "superseded": _superseded(lake, clips),
            "camera_quarantined": _quarantined(lake, clips),
            "wrong_scale": wrong_scale,
        }
    )
    own_reasons = pc.coalesce(origin_reasons, reasons(clips, policy))
    duplicate_ids = repeats(lake, clips.select(["clip_id", "frames"]).filter(pc.is_null(own_reasons)), policy)
    return pc.coalesce(own_reasons, _first_reason({"duplicate": pc.is_in(clips["clip_id"], value_set=duplicate_ids)}))


def _superseded(lake: Lake, clips: pa.Table) -> Column:
    """Return a mask of the clips whose work key is not the current cut of their source."""
    source_works = distinct(clips.select(["source_id", "work_key"]), ["source_id", "work_key"])
    if (
        pc.count_distinct(source_works["source_id"]).as_py() == source_works.num_rows
    ):  # the usual case: every source was cut once
        return pa.array(np.zeros(clips.num_rows, bool))
    by_run = partial(newest_first, lake, "clips")
    runs = distinct(clips.select(ORIGIN), ORIGIN)
    current = last_of(runs, ["source_id"], lambda rows: [*by_run(rows["run_id"]), rows["work_key"]])
    return pc.not_equal(clips["work_key"], look_up(clips["source_id"], current, "source_id", "work_key"))


def _quarantined(lake: Lake, clips: pa.Table) -> Column:
    """Return a mask of the clips whose camera is quarantined: the trusted cameras of its rig contradict it.

    If there are none, because all views contradict each other, its clips are kept as clips of unknown cameras.
    """
    cameras = camera_verdicts(lake)
    quarantined = pc.equal(cameras["verdict"], QUARANTINED)
    bad = cameras.filter(pc.and_not(quarantined, pc.is_in(cameras["capture_id"], value_set=disagreeing(lake))))
    if not bad.num_rows:  # the usual case
        return pa.array(np.zeros(clips.num_rows, bool))
    quarantined_cameras, clip_cameras = (
        pc.binary_join_element_wise(rows["capture_id"], rows["view"], "\n") for rows in (bad, clips)
    )
    return pc.is_in(clip_cameras, value_set=quarantined_cameras)


def _first_reason(rules: dict[str, Column]) -> pa.Array:
    """Return the name of the first rule that holds in each row, or null."""
    columns = [pa.chunked_array(rule).combine_chunks() for rule in rules.values()]
    holds = pa.StructArray.from_arrays(columns, list(rules))
    return pc.case_when(holds, *(pa.scalar(name) for name in rules))
