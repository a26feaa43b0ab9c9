"""Read the scores of clips, of which some are measured by a stage of their own."""

import pyarrow as pa

from opendimo.pipelines.engine.columns import look_up
from opendimo.storage_schemas.lake.lake import Lake

MEASURED_BY = {"hands_visible": "hands"}
"""Table of the scores that are no columns of `clips`; it has at most one row per clip."""


def clip_columns(lake: Lake, columns: list[str], where: str | None = None) -> pa.Table:
    """Return `clip_id` and `columns` of the clips that match `where`, in storage order.

    Scores in `MEASURED_BY` come from their tables, null if the clip was not measured. `where` is an SQL condition on
    columns that these share with `clips`.
    """
    names = list(dict.fromkeys(["clip_id", *columns]))
    clips = lake.dataset("clips").to_table(columns=[name for name in names if name not in MEASURED_BY], filter=where)
    for name in names:
        if name in MEASURED_BY:
            measured = lake.dataset(MEASURED_BY[name]).to_table(columns=["clip_id", name], filter=where)
            clips = clips.append_column(name, look_up(clips["clip_id"], measured, "clip_id", name))
    return clips
