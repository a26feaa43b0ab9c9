"""Read the clips covered by a report, with the verdict on each, as columns."""

import pyarrow as pa
import pyarrow.compute as pc

from opendimo.pipelines.engine.columns import look_up
from opendimo.pipelines.quality.policy import Policy
from opendimo.pipelines.quality.scores import clip_columns
from opendimo.pipelines.quality.verdicts import verdicts
from opendimo.storage_schemas.lake.lake import Lake

UNSHOWN = ("taken_down", "superseded")
"""Verdicts whose clips are counted but never shown."""
FACTS = ["clip_id", "capture_id", "kind", "frames", "fps_num", "fps_den"]
MOST_SCORED = 200_000  # maximum number of clips in the histograms and in the list


def judged_clips(lake: Lake, policy: Policy) -> tuple[pa.Table, pa.Table]:
    """Return all verdicts (`clip_id`, `reason`) sorted by id, and the clips that may be shown: `FACTS` and `reason`.

    The lake may be written to meanwhile: clips added after the verdicts were computed are left out.
    """
    judged = verdicts(lake, policy)
    clips = _with_reasons(lake.dataset("clips").to_table(columns=FACTS), judged)
    return judged, clips


def scored_clips(lake: Lake, judged: pa.Table, columns: list[str]) -> pa.Table:
    """Return `clip_id`, `columns` (scores and others of `clips`) and `reason` of the clips that may be shown.

    If there are more than `MOST_SCORED`, takes those with the lowest ids, which are hashes: an unbiased sample.
    """
    ids = judged["clip_id"]
    too_many = len(ids) > MOST_SCORED
    where = f"clip_id <= '{ids[MOST_SCORED - 1].as_py()}'" if too_many else None
    return _with_reasons(clip_columns(lake, columns, where), judged)


def _with_reasons(clips: pa.Table, judged: pa.Table) -> pa.Table:
    clips = clips.filter(pc.is_in(clips["clip_id"], value_set=judged["clip_id"]))
    clips = clips.append_column("reason", look_up(clips["clip_id"], judged, "clip_id", "reason"))
    return clips.filter(pc.invert(pc.is_in(clips["reason"], value_set=pa.array(UNSHOWN))))
