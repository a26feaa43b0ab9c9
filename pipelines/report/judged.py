"""The clips that a page speaks of, with the verdict on each, as columns."""

import pyarrow as pa
import pyarrow.compute as pc

from opendimo.pipelines.engine.columns import look_up
from opendimo.pipelines.quality.policy import Policy
from opendimo.pipelines.quality.verdicts import verdicts
from opendimo.storage_schemas.lake.lake import Lake

UNSHOWN = ("taken_down", "superseded")
"""Verdicts whose clips are counted but never shown."""
FACTS = ["clip_id", "capture_id", "kind", "frames", "fps_num", "fps_den"]
MOST_SCORED = 200_000  # clips of which the scores are drawn


def judged_clips(lake: Lake, policy: Policy) -> tuple[pa.Table, pa.Table]:
    """Every verdict (`clip_id`, `reason`), in order of ids; and the clips that may be shown: `FACTS` and `reason`.

    Others may be writing to the lake: what comes after the verdicts is left to the next page.
    """
    judged = verdicts(lake, policy)
    clips = _with_reasons(lake.dataset("clips").to_table(columns=FACTS), judged)
    return judged, clips


def scored_clips(lake: Lake, judged: pa.Table, scores: list[str]) -> pa.Table:
    """`scores` and `reason` of the clips that may be shown; of many, those whose ids, which are hashes, are lowest."""
    ids = judged["clip_id"]
    many = len(ids) > MOST_SCORED
    where = f"clip_id <= '{ids[MOST_SCORED - 1].as_py()}'" if many else None
    return _with_reasons(lake.dataset("clips").to_table(columns=["clip_id", *scores], filter=where), judged)


def _with_reasons(clips: pa.Table, judged: pa.Table) -> pa.Table:
    clips = clips.filter(pc.is_in(clips["clip_id"], value_set=judged["clip_id"]))
    clips = clips.append_column("reason", look_up(clips["clip_id"], judged, "clip_id", "reason"))
    return clips.filter(pc.invert(pc.is_in(clips["reason"], value_set=pa.array(UNSHOWN))))
