"""Manage runs of a lake: write the plan of a request, and stage its shards (`commit.py` commits them)."""

import json
import time
from contextlib import AbstractContextManager
from typing import Any, Protocol

import lance
import pyarrow as pa
from lance.fragment import write_fragments

from opendimo.storage_schemas.ids import sha256_bytes, stable_id
from opendimo.storage_schemas.lake.lock import Check
from opendimo.storage_schemas.lake.store import Store, read_json
from opendimo.storage_schemas.rows import Row, arrow_bytes, rows_to_arrow, rows_to_batches
from opendimo.storage_schemas.tables import TABLES


class Tables(Protocol):
    """The interface of `Lake` that runs and commits use."""

    uri: str
    store: Store

    def table_uri(self, table: str) -> str: ...

    def dataset(self, table: str, version: int | str | None = None) -> lance.LanceDataset: ...

    def scan(
        self, table: str, columns: list[str] | None = None, where: str | None = None, version: int | None = None
    ) -> pa.Table: ...

    def column(self, table: str, column: str, where: str | None = None) -> pa.ChunkedArray: ...

    def lock(self, name: str, wait: bool = True) -> AbstractContextManager[Check]: ...


def next_run(lake: Tables, *what: Any) -> str:
    """Return the id of the first run of the request `what` that is not committed yet."""
    attempt = 0
    while is_committed(lake, run_id := stable_id(*what, attempt)):
        attempt += 1
    return run_id


def begin(lake: Tables, run_id: str, plan: dict[str, Any]) -> dict[str, Any]:
    """Write the plan of a run unless it exists; return the stored plan. `plan` has `shards`, the number of shards."""
    full_plan = {**plan, "run_id": run_id, "started_ns": time.time_ns()}
    if is_committed(lake, run_id):
        return full_plan
    if lake.store.create(plan_file(run_id), json.dumps(full_plan, sort_keys=True).encode()):
        return full_plan
    return read_plan(lake, run_id)


def read_plan(lake: Tables, run_id: str) -> dict[str, Any]:
    """Return the plan of a run. Raises `ValueError` if the run has not begun."""
    if (plan := read_json(lake.store, plan_file(run_id))) is None:
        raise ValueError(f"{lake.uri} has no run {run_id}: begin it first")
    return dict(plan)


def is_committed(lake: Tables, run_id: str) -> bool:
    """Return whether a run is committed."""
    return lake.store.read(committed_file(run_id)) is not None


def unfinished(lake: Tables) -> list[dict[str, Any]]:
    """Return the plans of the runs that began and are not committed, oldest first."""
    names = lake.store.sizes("runs")
    begun = [run_id for name in names if name == plan_file(run_id := name.split("/")[1])]
    contents = [read_json(lake.store, plan_file(run_id)) for run_id in begun if committed_file(run_id) not in names]
    plans = [dict(plan) for plan in contents if plan is not None]  # None: `clean` deleted it since it was listed
    return sorted(plans, key=lambda plan: (plan["started_ns"], plan["run_id"]))


def staged(lake: Tables, run_id: str, shard: int) -> dict[str, Any] | None:
    """Return the manifest of a shard, or None if it is not staged yet."""
    manifest = read_json(lake.store, manifest_file(run_id, shard))
    return None if manifest is None else dict(manifest)


def staged_shards(lake: Tables, run_id: str) -> int:
    """Return the number of shards of a run that are staged."""
    return sum(name.endswith(".json") for name in lake.store.sizes(f"runs/{run_id}/staged"))


def stage_shard(
    lake: Tables, run_id: str, shard: int, rows: dict[str, list[Row]], note: dict[str, Any]
) -> dict[str, Any]:
    """Stage the rows of a shard by table; return its manifest, which is written last and contains `note` (JSON-able).

    Raises `ValueError` if two rows of a table with blobs have the same key.
    """
    if (manifest := staged(lake, run_id, shard)) is not None:
        return manifest
    tables: dict[str, Any] = {}
    for name, table_rows in rows.items():
        if not table_rows:
            continue
        staged_rows = [{**row, "run_id": run_id} for row in table_rows]
        if TABLES[name].blobs:
            keys = [row[TABLES[name].key] for row in staged_rows]
            if len(set(keys)) < len(keys):
                raise ValueError(f"run {run_id}, shard {shard}: two rows of {name} have the same {TABLES[name].key}")
            data = rows_to_batches(TABLES[name], staged_rows)
            fragments = write_fragments(data, lake.table_uri(name), mode="append", enable_stable_row_ids=True)
            tables[name] = {"fragments": [f.to_json() for f in fragments], "keys": keys}
        else:
            content = arrow_bytes(rows_to_arrow(TABLES[name], staged_rows))
            # named by content: if two workers stage the same shard, the manifest refers to the rows of its own worker
            file = f"runs/{run_id}/staged/{shard:06d}.{name}.{sha256_bytes(content)[:16]}.arrow"
            lake.store.write(file, content)
            tables[name] = {"file": file}
    manifest = {"shard": shard, "tables": tables, "note": note}
    if lake.store.create(manifest_file(run_id, shard), json.dumps(manifest, sort_keys=True).encode()):
        return manifest
    return staged(lake, run_id, shard) or manifest


def plan_file(run_id: str) -> str:
    """Return the name of the file with the plan of a run."""
    return f"runs/{run_id}/plan.json"


def committed_file(run_id: str) -> str:
    """Return the name of the file with the numbers of rows that a run committed; it exists once the run has ended."""
    return f"runs/{run_id}/committed.json"


def manifest_file(run_id: str, shard: int) -> str:
    """Return the name of the file with the manifest of a staged shard."""
    return f"runs/{run_id}/staged/{shard:06d}.json"
