"""Determine from the ledger which revision of a table is current, when several runs produced rows for the same item."""

import json
import time
from importlib.metadata import version as package_version
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from opendimo.storage_schemas.ids import stable_id
from opendimo.storage_schemas.lake.lake import Lake

HUMAN = "human: "
"""How the captioner of a person's decision begins; their name follows."""


def ranks(lake: Lake, table: str) -> pa.Table:
    """Return `run_id`, `rank` (int64) and `version` of every run that committed to a table; higher ranks are newer.

    All runs of a revision (code version, config, weights) have the same rank, determined by the latest request for
    this revision. Within a rank, the later version of the table is newer.
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
    """Return the sort keys rank and version for rows with these run ids: higher values are newer, -1 is unknown."""
    run_ranks = ranks(lake, table)
    indices = pc.index_in(run_ids, value_set=run_ranks["run_id"])
    return [pc.fill_null(run_ranks[name].take(indices), -1) for name in ("rank", "version")]


def newest_captions_first(lake: Lake, run_ids: pa.ChunkedArray, captioners: pa.ChunkedArray) -> list[pa.ChunkedArray]:
    """Return the sort keys of captions: decisions of people count more than what was measured, however new."""
    return [pc.starts_with(captioners, HUMAN).cast(pa.int64()), *newest_first(lake, "captions", run_ids)]


def current_revision(lake: Lake, table: str) -> str:
    """Return the most recently requested revision of a table; empty if there is none."""
    columns = ["run_id", "version", "committed_at", "config"]
    entries = lake.read("ledger", columns, f"table_name = '{table}'")
    last = max(entries, key=lambda row: (row["version"], row["committed_at"]), default=None)
    return _revision(last) if last else ""


def ask_again(lake: Lake, table: str, config: dict[str, Any]) -> None:
    """Record a request for a revision whose rows are all stored already, which makes this revision current."""
    entries = lake.read("ledger", ["entry_id"], f"table_name = '{table}'")
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
    run_id = stable_id("asked again", table, config, len(entries))
    lake.append(run_id, {"ledger": [{**row, "entry_id": stable_id("ledger", run_id, table)}]})


def _revision(entry: dict[str, Any]) -> str:
    """Return the revision of a ledger entry; an entry without one counts as a revision of its own."""
    return str(json.loads(entry["config"]).get("revision") or entry["run_id"])
