"""Write to a lake exactly once: plan, stage, commit.

The id of a run is a hash of its request, so the same request is the same run. `begin` writes the plan once. Workers
stage each shard (`stage_shard`: rows as Arrow files, tables with blobs as Lance fragments, then one manifest, written
last) and never commit. One committer at a time (`commit`, under the lock `commit` of the lake) makes at most one
transaction per table and run. It first writes the planned commit to `commit.json`; if it is killed, the next process
that takes the lock completes that commit. Every row has the id of the run that committed it, which shows which
transactions were completed. If a run is killed at any point and run again, the resulting tables are the same.

The lock is not the only safeguard. Rows without blobs are written by an upsert on the declared key, which Lance refuses
to run twice concurrently. If a process that was suspended and lost its lock appends blobs a second time, the duplicates
are deleted and the first rows are kept.
"""

import json
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version as package_version
from typing import Any

import lance
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from lance.fragment import FragmentMetadata, write_fragments

from opendimo.storage_schemas.ids import stable_id
from opendimo.storage_schemas.lake.lock import Check
from opendimo.storage_schemas.lake.runs import Tables, committed_file, read_plan, staged
from opendimo.storage_schemas.lake.store import read_json, write_json
from opendimo.storage_schemas.rows import in_list, rows_to_arrow
from opendimo.storage_schemas.tables import TABLES, Table

Facts = Callable[[list[dict[str, Any]]], dict[str, Any]]
Entry = dict[str, int]  # version, rows, replaced

PENDING = "commit.json"  # the commit in progress
VERSION = "_row_last_updated_at_version"  # Lance's record of the transaction that wrote a row

log = logging.getLogger(__name__)


def commit(lake: Tables, run_id: str, facts: Facts | None = None, partial: bool = False) -> dict[str, int]:
    """Commit the staged shards of a run, at most once, and end the run; return the number of committed rows by table.

    If a key is already stored, the stored row and its blobs are kept, except in tables with `Table.replaces`. `facts`
    is called once, before any change, with the notes of the shards; its result (stage, config, counts) is written to
    the ledger and survives a crash. `partial` commits the staged shards of a run that will not be finished. Raises
    `ValueError` if a shard is not staged, unless `partial`.
    """
    with exclusive(lake) as check:
        if (committed := read_json(lake.store, committed_file(run_id))) is not None:
            return dict(committed)
        pending = _plan_commit(lake, read_plan(lake, run_id), facts, partial)
        check()
        write_json(lake.store, PENDING, pending)
        return _execute(lake, check, pending)


@contextmanager
def exclusive(lake: Tables) -> Iterator[Check]:
    """Hold the lock `commit`, and yield its `Check`.

    First complete the commit that a killed process left unfinished, if any, so that no other change happens between the
    planning of a commit and its execution.
    """
    with lake.lock("commit") as check:
        if (pending := read_json(lake.store, PENDING)) is not None:
            _execute(lake, check, pending)
        yield check


def _execute(lake: Tables, check: Check, pending: dict[str, Any]) -> dict[str, int]:
    """Execute a planned commit, or the rest of it; return the number of committed rows by table."""
    run_id = pending["run_id"]
    plan, entries = read_plan(lake, run_id), dict[str, Entry]()
    manifests = [_staged_or_raise(lake, run_id, k) for k in pending["shards"]]
    # the stage's own table last, so that the rows that its rows refer to are already visible
    for table in sorted(TABLES.values(), key=lambda table: table.name == plan.get("stage")):
        parts = [m["tables"][table.name] for m in manifests if table.name in m["tables"]]
        if parts:
            check()
            entry = _committed_before(lake, table, run_id) or _commit_table(lake, table, parts, check)
            if table.blobs:
                _drop_duplicates(lake, table, parts)
            entries[table.name] = {**entry, "replaced": pending["replaced"].get(table.name, 0)}
    check()
    _append_ledger(lake, plan, entries, pending["facts"])
    rows = {name: entry["rows"] for name, entry in entries.items()}
    write_json(lake.store, committed_file(run_id), rows)
    lake.store.delete(PENDING)
    return rows


def _plan_commit(lake: Tables, plan: dict[str, Any], facts: Facts | None, partial: bool) -> dict[str, Any]:
    """Return the shards to commit, and the ledger facts that must be computed before the commit changes the tables."""
    run_id, shards = plan["run_id"], list(range(plan["shards"]))
    if partial:
        shards = [k for k in shards if staged(lake, run_id, k) is not None]
    manifests = [_staged_or_raise(lake, run_id, k) for k in shards]
    replaced = {}
    for table in TABLES.values():
        parts = [m["tables"][table.name] for m in manifests if table.name in m["tables"]]
        if parts and table.replaces and "work_key" in table.schema.names:
            replaced[table.name] = _replaced(lake, table, _staged_rows(lake, table, parts))
    ledger_facts = facts([m["note"] for m in manifests]) if facts else {}
    return {"run_id": run_id, "shards": shards, "replaced": replaced, "facts": ledger_facts}


def _replaced(lake: Tables, table: Table, data: pa.Table) -> int:
    """Return how many rows will replace a stored row with another work key."""
    stored = lake.scan(table.name, [table.key, "work_key"])
    indices = pc.index_in(data[table.key], value_set=stored[table.key])
    return int(pc.sum(pc.not_equal(stored["work_key"].take(indices), data["work_key"])).as_py() or 0)


def _committed_before(lake: Tables, table: Table, run_id: str) -> Entry | None:
    """Return the result of the transaction of an earlier attempt, found by its rows; None if there was none."""
    rows = lake.dataset(table.name).to_table(columns=[VERSION], filter=f"run_id = '{run_id}'")
    return {"version": int(pc.max(rows[VERSION]).as_py()), "rows": rows.num_rows} if rows.num_rows else None


def _commit_table(lake: Tables, table: Table, parts: list[dict[str, Any]], check: Check) -> Entry:
    """Commit the staged rows of one table in one transaction, or in none if there is no new row."""
    if table.blobs:
        return _append_fragments(lake, table, parts, check)
    data = _staged_rows(lake, table, parts)
    if not table.replaces:
        data = data.filter(pc.invert(pc.is_in(data[table.key], value_set=lake.column(table.name, table.key))))
    if data.num_rows:
        upsert = lake.dataset(table.name).merge_insert(table.key).when_not_matched_insert_all().use_index(False)
        (upsert.when_matched_update_all() if table.replaces else upsert).execute(data)
    return {"version": lake.dataset(table.name).version, "rows": data.num_rows}


def _append_fragments(lake: Tables, table: Table, parts: list[dict[str, Any]], check: Check) -> Entry:
    """Append staged fragments. If a shard contains keys that are already stored, rewrite its fragments without them."""
    staged_keys = pa.array([key for part in parts for key in part["keys"]], pa.string())
    stored = lake.column(table.name, table.key)
    known_keys = set(stored.filter(pc.is_in(stored, value_set=staged_keys)).to_pylist())
    fragments: list[FragmentMetadata] = []
    for part in parts:
        part_fragments = [FragmentMetadata.from_json(json.dumps(f)) for f in part["fragments"]]
        new_keys = [key for key in part["keys"] if key not in known_keys]
        known_keys.update(new_keys)
        if len(new_keys) == len(part["keys"]):
            fragments += part_fragments
        elif new_keys:
            fragments += _rewrite_with_keys(lake, table, part_fragments, new_keys)
    dataset = lake.dataset(table.name)
    if not fragments:
        return {"version": dataset.version, "rows": 0}
    check()  # rewriting fragments may have taken long
    committed = _transaction(lake, table, dataset.version, lance.LanceOperation.Append(fragments))
    return {"version": committed.version, "rows": sum(f.num_rows for f in fragments)}


def _rewrite_with_keys(
    lake: Tables, table: Table, fragments: list[FragmentMetadata], keys: list[str]
) -> list[FragmentMetadata]:
    """Rewrite staged fragments with only the rows of `keys`.

    To read them, attach them to a detached version, which is not part of the table's history.
    """
    dataset = lake.dataset(table.name)
    stored_ids = {f.fragment_id for f in dataset.get_fragments()}
    detached = _transaction(lake, table, dataset.version, lance.LanceOperation.Append(fragments), detached=True)
    staged_fragments = [f for f in detached.get_fragments() if f.fragment_id not in stored_ids]
    data = detached.scanner(
        filter=in_list(table.key, keys), fragments=staged_fragments, blob_handling="all_binary"
    ).to_table()
    columns = [
        lance.blob_array(data[f.name].to_pylist()) if f.name in table.blobs else data[f.name].combine_chunks()
        for f in table.schema
    ]
    rows = pa.Table.from_arrays(columns, schema=table.schema)
    return list(write_fragments(rows, lake.table_uri(table.name), mode="append", enable_stable_row_ids=True))


def _drop_duplicates(lake: Tables, table: Table, parts: list[dict[str, Any]]) -> None:
    """Delete all but the first of the rows with the same key.

    Duplicates occur if a process was suspended, lost its lock, and appended the same rows.
    """
    keys = pa.array([key for part in parts for key in part["keys"]], pa.string())
    stored = lake.dataset(table.name).to_table(columns=[table.key], with_row_id=True)
    rows = stored.filter(pc.is_in(stored[table.key], value_set=keys)).sort_by("_rowid")
    _, first = np.unique(rows[table.key].to_numpy(), return_index=True)
    duplicates = np.delete(rows["_rowid"].to_numpy(), first).tolist()
    if duplicates:
        log.warning("%s had %d duplicate rows: the later ones were deleted", table.name, len(duplicates))
        lake.dataset(table.name).delete(f"_rowid IN ({', '.join(map(str, duplicates))})")


def _transaction(
    lake: Tables, table: Table, read_version: int, operation: Any, detached: bool = False
) -> lance.LanceDataset:
    transaction = lance.Transaction(read_version=read_version, operation=operation)
    return lance.LanceDataset.commit(
        lake.table_uri(table.name), transaction, enable_stable_row_ids=True, detached=detached
    )


def _staged_rows(lake: Tables, table: Table, parts: list[dict[str, Any]]) -> pa.Table:
    """Return staged rows in key order, each key once: two shards may stage the same row."""
    tables = []
    for part in parts:
        content = lake.store.read(part["file"])
        if content is None:
            raise ValueError(
                f"the staged file {part['file']} is missing: delete the folder of its run and run it again"
            )
        tables.append(pa.ipc.open_file(content).read_all())
    data = pa.concat_tables(tables)
    keys = data[table.key].combine_chunks()
    first = pc.equal(pc.index_in(keys, value_set=keys), pa.array(range(len(keys)), pa.int32()))
    return data.filter(first).sort_by(table.key).cast(table.schema)


def _append_ledger(lake: Tables, plan: dict[str, Any], entries: dict[str, Entry], facts: dict[str, Any]) -> None:
    """Add one ledger row per table; rows that already exist are kept."""
    table = TABLES["ledger"]
    rows = [
        {
            "entry_id": stable_id("ledger", plan["run_id"], name),
            "run_id": plan["run_id"],
            "stage": facts.get("stage", ""),
            "table_name": name,
            "rows": entry["rows"],
            "replaced": entry["replaced"],
            "version": entry["version"],
            "config": json.dumps(facts.get("config", {}), sort_keys=True, default=str),
            "counts": json.dumps(facts.get("counts", {}), sort_keys=True),
            "code_version": package_version("opendimo"),
            "committed_at": time.time_ns(),
            "seconds": (time.time_ns() - plan["started_ns"]) / 1e9,
        }
        for name, entry in entries.items()
    ]
    if rows:
        data = rows_to_arrow(table, rows)
        lake.dataset("ledger").merge_insert(table.key).when_not_matched_insert_all().use_index(False).execute(data)


def _staged_or_raise(lake: Tables, run_id: str, shard: int) -> dict[str, Any]:
    if (manifest := staged(lake, run_id, shard)) is None:
        raise ValueError(f"run {run_id}: shard {shard} is not staged; run the same request again")
    return manifest
