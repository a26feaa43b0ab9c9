"""Which of several rows about one clip counts."""

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from opendimo.pipelines.engine.columns import last_of
from opendimo.storage_schemas.caption_hash import COMPOSED_OF, caption_hashes
from opendimo.storage_schemas.lake.lake import Lake
from opendimo.storage_schemas.lake.ledger import newest_first

Row = dict[str, Any]


def newest(lake: Lake, table: str, by: list[str], columns: list[str], where: str | None = None) -> pa.Table:
    """Of the rows of a table that agree in the columns `by`, the current one: of the revision that was asked for last,
    the row committed last. Holds `by`, `columns` and `run_id`."""
    data = lake.dataset(table).to_table(columns=list(dict.fromkeys([*by, *columns, "run_id"])), filter=where)
    return last_of(data, by, lambda rows: newest_first(lake, table, rows["run_id"]))


def current_captions(lake: Lake, columns: list[str]) -> pa.Table:
    """The current caption of each clip: `clip_id`, `caption_id`, `caption_hash` and `columns`."""
    wanted = ["clip_id", "caption_id", *columns]
    data = newest(lake, "captions", ["clip_id"], [*wanted, *COMPOSED_OF])
    return data.select(wanted).append_column("caption_hash", caption_hashes(data))


def best_poses(lake: Lake, columns: list[str], where: str | None = None) -> pa.Table:
    """Of the current labels of each clip, one per landmark model (or truth), that of the highest weight: `clip_id`,
    `pose_id`, `weight` and `columns`."""
    wanted = list(dict.fromkeys(["clip_id", "pose_id", "weight", *columns]))
    data = lake.dataset("poses").to_table(columns=list({*wanted, "estimator", "run_id"}), filter=where)
    # a label made anew from other views, or on another clock, replaces the old one, however sure that was
    data = data.append_column("model", pc.replace_substring_regex(data["estimator"], "^.* ", ""))
    current = last_of(data, ["clip_id", "model"], lambda rows: newest_first(lake, "poses", rows["run_id"]))
    return last_of(current, ["clip_id"], lambda rows: [rows["weight"], rows["pose_id"]]).select(wanted)


def by_column(data: pa.Table, column: str) -> dict[Any, Row]:
    """Rows by the value of a column: of small tables only."""
    return {row[column]: row for row in data.to_pylist()}
