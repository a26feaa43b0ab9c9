"""Exactly-once writes: plan, stage, commit.

A run has an id made of its request, so the same request is the same run. `begin` writes the plan once; workers stage
each shard (`stage_shard`: rows as Arrow files, tables with blobs as Lance fragments, then one manifest, written last);
one committer at a time (`commit`, under the lake's lock `commit`) makes at most one transaction per table and run that
changes anything. What it is about to do it writes down first (`commit.json`), and whoever takes the lock next completes
what a killed process left. Every row says which run committed it, so the rows themselves tell which transactions
happened. Workers never commit. Killed anywhere and run again, the tables come out the same.

The lock is not the only guard. Rows without blobs go through an upsert on the declared key, which Lance itself refuses
to do twice at once; of blobs that a process appended which slept through the loss of its lock the first stay.
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

PENDING = "commit.json"  # the commit that is going on
VERSION = "_row_last_updated_at_version"  # Lance's own record of the transaction that wrote a row

log = logging.getLogger(__name__)


def commit(lake: Tables, run_id: str, facts: Facts | None = None, partial: bool = False) -> dict[str, int]:
    """Commit the staged shards of a run, at most once, and end it; return the committed rows per table.

    Of a key that is stored already the stored row stays (`Table.replaces` apart), with blobs as well. `facts` is called
    once, before anything changes, with the notes of the shards; its answer (stage, config, counts) goes into the ledger
    and survives a crash. `partial` commits what is staged of a run that nobody will finish. Raises `ValueError` where a
    shard is not staged, unless `partial`.
    """
    with exclusive(lake) as check:
        if (committed := read_json(lake.store, committed_file(run_id))) is not None:
            return dict(committed)
        decided = _decide(lake, read_plan(lake, run_id), facts, partial)
        check()
        write_json(lake.store, PENDING, decided)
        return _carry_out(lake, check, decided)


@contextmanager
def exclusive(lake: Tables) -> Iterator[Check]:
    """Hold the lock `commit` while no commit is half done: what a killed process left of one is completed first, so
    that nothing comes between a decision and what it decided."""
    with lake.lock("commit") as check:
        if (decided := read_json(lake.store, PENDING)) is not None:
            _carry_out(lake, check, decided)
        yield check


def _carry_out(lake: Tables, check: Check, decided: dict[str, Any]) -> dict[str, int]:
    """Do what was decided, or the rest of it."""
    run_id = decided["run_id"]
    plan, entries = read_plan(lake, run_id), dict[str, Entry]()
    manifests = [_staged_or_raise(lake, run_id, k) for k in decided["shards"]]
    # the stage's own table last: whoever sees its rows finds what they refer to
    for table in sorted(TABLES.values(), key=lambda table: table.name == plan.get("stage")):
        parts = [m["tables"][table.name] for m in manifests if table.name in m["tables"]]
        if parts:
            check()
            entry = _committed_before(lake, table, run_id) or _commit_table(lake, table, parts, check)
            if table.blobs:
                _drop_doubles(lake, table, parts)
            entries[table.name] = {**entry, "replaced": decided["replaced"].get(table.name, 0)}
    check()
    _append_ledger(lake, plan, entries, decided["facts"])
    rows = {name: entry["rows"] for name, entry in entries.items()}
    write_json(lake.store, committed_file(run_id), rows)
    lake.store.delete(PENDING)
    return rows


def _decide(lake: Tables, plan: dict[str, Any], facts: Facts | None, partial: bool) -> dict[str, Any]:
    """Which shards are committed, and the facts about them that the commit itself would change."""
    run_id, shards = plan["run_id"], list(range(plan["shards"]))
    if partial:
        shards = [k for k in shards if staged(lake, run_id, k) is not None]
    manifests = [_staged_or_raise(lake, run_id, k) for k in shards]
    replaced = {}
    for table in TABLES.values():
        parts = [m["tables"][table.name] for m in manifests if table.name in m["tables"]]
        if parts and table.replaces and "work_key" in table.schema.names:
            replaced[table.name] = _replaced(lake, table, _staged_rows(lake, table, parts))
    told = facts([m["note"] for m in manifests]) if facts else {}
    return {"run_id": run_id, "shards": shards, "replaced": replaced, "facts": told}


def _replaced(lake: Tables, table: Table, data: pa.Table) -> int:
    """How many rows will take the place of one that other work made."""
    stored = lake.scan(table.name, [table.key, "work_key"])
    at = pc.index_in(data[table.key], value_set=stored[table.key])
    return int(pc.sum(pc.not_equal(stored["work_key"].take(at), data["work_key"])).as_py() or 0)


def _committed_before(lake: Tables, table: Table, run_id: str) -> Entry | None:
    """What the transaction of an earlier attempt did, by the rows it left."""
    rows = lake.dataset(table.name).to_table(columns=[VERSION], filter=f"run_id = '{run_id}'")
    return {"version": int(pc.max(rows[VERSION]).as_py()), "rows": rows.num_rows} if rows.num_rows else None


def _commit_table(lake: Tables, table: Table, parts: list[dict[str, Any]], check: Check) -> Entry:
    """One transaction, or none where there is nothing new."""
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
    """Append staged fragments; those of a shard that holds a key already stored are written again without it."""
    staged_keys = pa.array([key for part in parts for key in part["keys"]], pa.string())
    stored = lake.column(table.name, table.key)
    seen = set(stored.filter(pc.is_in(stored, value_set=staged_keys)).to_pylist())
    fragments: list[FragmentMetadata] = []
    for part in parts:
        own = [FragmentMetadata.from_json(json.dumps(f)) for f in part["fragments"]]
        fresh = [key for key in part["keys"] if key not in seen]
        seen.update(fresh)
        if len(fresh) == len(part["keys"]):
            fragments += own
        elif fresh:
            fragments += _only(lake, table, own, fresh)
    dataset = lake.dataset(table.name)
    if not fragments:
        return {"version": dataset.version, "rows": 0}
    check()  # writing fragments again may have taken long
    committed = _transaction(lake, table, dataset.version, lance.LanceOperation.Append(fragments))
    return {"version": committed.version, "rows": sum(f.num_rows for f in fragments)}


def _only(lake: Tables, table: Table, fragments: list[FragmentMetadata], keys: list[str]) -> list[FragmentMetadata]:
    """Staged fragments written again with the rows of `keys` alone. A detached version, which is no part of the table's
    history, makes them readable."""
    before = lake.dataset(table.name)
    attached = {f.fragment_id for f in before.get_fragments()}
    aside = _transaction(lake, table, before.version, lance.LanceOperation.Append(fragments), detached=True)
    own = [f for f in aside.get_fragments() if f.fragment_id not in attached]
    data = aside.scanner(filter=in_list(table.key, keys), fragments=own, blob_handling="all_binary").to_table()
    columns = [
        lance.blob_array(data[f.name].to_pylist()) if f.name in table.blobs else data[f.name].combine_chunks()
        for f in table.schema
    ]
    whole = pa.Table.from_arrays(columns, schema=table.schema)
    return list(write_fragments(whole, lake.table_uri(table.name), mode="append", enable_stable_row_ids=True))


def _drop_doubles(lake: Tables, table: Table, parts: list[dict[str, Any]]) -> None:
    """Of rows with one key the first stays: a process that slept through the loss of its lock may have appended too."""
    keys = pa.array([key for part in parts for key in part["keys"]], pa.string())
    stored = lake.dataset(table.name).to_table(columns=[table.key], with_row_id=True)
    own = stored.filter(pc.is_in(stored[table.key], value_set=keys)).sort_by("_rowid")
    _, first = np.unique(own[table.key].to_numpy(), return_index=True)
    doubles = np.delete(own["_rowid"].to_numpy(), first).tolist()
    if doubles:
        log.warning("%s held %d rows twice: the later ones were dropped", table.name, len(doubles))
        lake.dataset(table.name).delete(f"_rowid IN ({', '.join(map(str, doubles))})")


def _transaction(
    lake: Tables, table: Table, read_version: int, operation: Any, detached: bool = False
) -> lance.LanceDataset:
    transaction = lance.Transaction(read_version=read_version, operation=operation)
    return lance.LanceDataset.commit(
        lake.table_uri(table.name), transaction, enable_stable_row_ids=True, detached=detached
    )


def _staged_rows(lake: Tables, table: Table, parts: list[dict[str, Any]]) -> pa.Table:
    """Staged rows in key order, each key once: two shards may stage the same row."""
    tables = []
    for part in parts:
        content = lake.store.read(part["file"])
        if content is None:
            raise ValueError(f"the staged file {part['file']} is gone; delete the folder of its run and run it again")
        tables.append(pa.ipc.open_file(content).read_all())
    data = pa.concat_tables(tables)
    keys = data[table.key].combine_chunks()
    first = pc.equal(pc.index_in(keys, value_set=keys), pa.array(range(len(keys)), pa.int32()))
    return data.filter(first).sort_by(table.key).cast(table.schema)


def _append_ledger(lake: Tables, plan: dict[str, Any], entries: dict[str, Entry], facts: dict[str, Any]) -> None:
    """One row per table; a row that is there already stays."""
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
