"""What the ledger says about revisions: of rows that several runs made of one thing, whose are the current ones."""

import json
import time
from importlib.metadata import version as package_version
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from opendimo.storage_schemas.ids import stable_id
from opendimo.storage_schemas.lake.lake import Lake


def ranks(lake: Lake, table: str) -> pa.Table:
    """`run_id`, `rank` (int64) and `version` of every run that committed to a table: the higher rank is current.

    Runs of one revision (code version, config, weights) have one rank: that of the last time anybody asked for this
    revision. Within a rank the later version of the table is current.
    """
    columns = ["run_id", "version", "committed_at", "config"]
    entries = lake.dataset("ledger").to_table(columns=columns, filter=f"table_name = '{table}'")
    entries = entries.sort_by([("version", "ascending"), ("committed_at", "ascending")])
    revisions = [_revision(row) for row in entries.select(["run_id", "config"]).to_pylist()]
    last = {revision: rank for rank, revision in enumerate(revisions)}
    return pa.table(
        {
            "run_id": entries["run_id"],
            "rank": pa.array([last[revision] for revision in revisions], pa.int64()),
            "version": entries["version"],
        }
    )


def newest_first(lake: Lake, table: str, run_ids: pa.ChunkedArray) -> list[pa.ChunkedArray]:
    """Sort keys of rows by the runs that made them: rising towards what is current."""
    known = ranks(lake, table)
    places = pc.index_in(run_ids, value_set=known["run_id"])
    return [pc.fill_null(known[name].take(places), -1) for name in ("rank", "version")]


def current_revision(lake: Lake, table: str) -> str:
    """The revision that was asked for last; empty where nothing was."""
    columns = ["run_id", "version", "committed_at", "config"]
    entries = lake.read("ledger", columns, f"table_name = '{table}'")
    last = max(entries, key=lambda row: (row["version"], row["committed_at"]), default=None)
    return _revision(last) if last else ""


def ask_again(lake: Lake, table: str, config: dict[str, Any]) -> None:
    """Record that a revision was asked for of which every row is there already: it is current from now on."""
    asked = lake.read("ledger", ["entry_id"], f"table_name = '{table}'")
    row = {
        "stage": table,
        "table_name": table,
        "rows": 0,
        "replaced": 0,
        "version": lake.dataset(table).version,
        "config": json.dumps(config, sort_keys=True, default=str),
        "counts": json.dumps({"in": 0, "done": 0, "rejected": {}}),
        "code_version": package_version("opendimo"),
        "committed_at": time.time_ns(),
        "seconds": 0.0,
    }
    run_id = stable_id("asked again", table, config, len(asked))
    lake.append(run_id, {"ledger": [{**row, "entry_id": stable_id("ledger", run_id, table)}]})


def _revision(entry: dict[str, Any]) -> str:
    """The revision of a ledger entry; rows that came without one are a revision of their own run."""
    return str(json.loads(entry["config"]).get("revision") or entry["run_id"])
