"""Select the current row if a table holds several revisions of a row."""

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from opendimo.pipelines.engine.columns import last_of
from opendimo.storage_schemas.caption_hash import COMPOSED_OF, caption_hashes
from opendimo.storage_schemas.lake.lake import Lake
from opendimo.storage_schemas.lake.ledger import newest_captions_first, newest_first
from opendimo.storage_schemas.rows import Row


def newest(lake: Lake, table: str, by: list[str], columns: list[str], where: str | None = None) -> pa.Table:
    """Return the current row of each group with equal values in the columns `by`.

    The current row is the last committed row of the revision (stage version, config, weights) that was requested last,
    for captions the decision of a person if there is one. The result has the columns `by`, `columns` and `run_id`.
    """
    wanted = list(dict.fromkeys([*by, *columns, "run_id"]))
    if table == "captions":
        data = lake.dataset(table).to_table(columns=[*dict.fromkeys([*wanted, "captioner"])], filter=where)
        chosen = last_of(data, by, lambda rows: newest_captions_first(lake, rows["run_id"], rows["captioner"]))
        return chosen.select(wanted)
    data = lake.dataset(table).to_table(columns=wanted, filter=where)
    return last_of(data, by, lambda rows: newest_first(lake, table, rows["run_id"]))


def current_captions(lake: Lake, columns: list[str]) -> pa.Table:
    """Return the current caption of each clip: `clip_id`, `caption_id`, `caption_hash` and `columns`."""
    selected_columns = ["clip_id", "caption_id", *columns]
    data = newest(lake, "captions", ["clip_id"], [*selected_columns, *COMPOSED_OF])
    return data.select(selected_columns).append_column("caption_hash", caption_hashes(data))


def best_poses(lake: Lake, columns: list[str], where: str | None = None) -> pa.Table:
    """Return the best current pose label of each clip: `clip_id`, `pose_id`, `weight` and `columns`.

    A clip has one current label per landmark model (or ground truth); the best one is the truth, else the one with the
    highest weight.
    """
    selected_columns = list(dict.fromkeys(["clip_id", "pose_id", "weight", *columns]))
    data = lake.dataset("poses").to_table(columns=list({*selected_columns, "estimator", "run_id"}), filter=where)
    # a label recomputed from other views or another synchronisation replaces the old one, even if that weighed more
    data = data.append_column("model", pc.replace_substring_regex(data["estimator"], "^.* ", ""))
    current = last_of(data, ["clip_id", "model"], lambda rows: newest_first(lake, "poses", rows["run_id"]))
    true = pc.cast(pc.equal(current["estimator"], "truth"), pa.int8())
    current = current.append_column("true", true)
    return last_of(current, ["clip_id"], lambda rows: [rows["true"], rows["weight"], rows["pose_id"]]).select(
        selected_columns
    )


def by_column(data: pa.Table, column: str) -> dict[Any, Row]:
    """Return the rows of a table by the value of a column. Use it for small tables only."""
    return {row[column]: row for row in data.to_pylist()}
