"""Which of several rows about one clip counts."""

from typing import Any

import pyarrow as pa

from pipelines.columns import last_of
from storage_schemas.lake import Lake
from storage_schemas.ledger import newest_first

Row = dict[str, Any]


def newest(lake: Lake, table: str, by: list[str], columns: list[str], where: str | None = None) -> pa.Table:
    """Of the rows of a table that agree in the columns `by`, the current one: of the revision that was asked for last,
    the row committed last. Holds `by`, `columns` and `run_id`."""
    data = lake.dataset(table).to_table(columns=list(dict.fromkeys([*by, *columns, "run_id"])), filter=where)
    return last_of(data, by, lambda rows: newest_first(lake, table, rows["run_id"]))


def best_poses(lake: Lake, columns: list[str], where: str | None = None) -> pa.Table:
    """The pose label of the highest weight of each clip: `clip_id`, `pose_id`, `weight` and `columns`."""
    wanted = list(dict.fromkeys(["clip_id", "pose_id", "weight", *columns]))
    data = lake.dataset("poses").to_table(columns=wanted, filter=where)
    return last_of(data, ["clip_id"], lambda rows: [rows["weight"], rows["pose_id"]])


def by_column(data: pa.Table, column: str) -> dict[Any, Row]:
    """Rows by the value of a column: of small tables only."""
    return {row[column]: row for row in data.to_pylist()}
