"""Exactly-once writes: plan, stage, commit.

A run has an id made of its request, so the same request is the same run. `begin` writes the plan once; workers stage
each shard (`stage_shard`: rows as Arrow files, tables with blobs as Lance fragments, then one manifest, written last);
one committer at a time (`commit`, under a file lock which the system frees when its holder dies) makes at most one
transaction per table and run that changes anything. It finds its own earlier transaction in the ledger or, after a
crash between transaction and ledger, in the table's history. Workers never commit. Killed anywhere and run again, the
tables come out the same.
"""

import io
import json
import time
from importlib.metadata import version as package_version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lance
import pyarrow as pa
from filelock import FileLock
from lance.fragment import FragmentMetadata, write_fragments

from storage_schemas.files import read_json, write_bytes, write_json
from storage_schemas.ids import stable_id
from storage_schemas.rows import Row, rows_to_arrow
from storage_schemas.tables import TABLES

if TYPE_CHECKING:
    from storage_schemas.lake import Lake

ROWS_PER_FRAGMENT = 1 << 20


def begin(lake: "Lake", run_id: str, plan: dict[str, Any]) -> dict[str, Any]:
    """Write the plan of a run (it has `shards`, their number) unless it is there; return the plan that holds."""
    path = _folder(lake, run_id) / "plan.json"
    if not path.exists():
        bases = {table: lake.dataset(table).version for table in TABLES}
        write_json(path, {**plan, "run_id": run_id, "bases": bases, "started_ns": time.time_ns()})
    return dict(read_json(path))


def read_plan(lake: "Lake", run_id: str) -> dict[str, Any]:
    """The plan of a run that has begun."""
    return dict(read_json(_folder(lake, run_id) / "plan.json"))


def is_committed(lake: "Lake", run_id: str) -> bool:
    """Whether a run ended."""
    return (_folder(lake, run_id) / "committed.json").exists()


def unfinished(lake: "Lake") -> list[dict[str, Any]]:
    """Plans of runs of which every shard is staged but which did not end: they were killed around their commit."""
    plans = [read_json(path) for path in sorted((lake.root / "runs").glob("*/plan.json"))]
    return [
        plan
        for plan in plans
        if not is_committed(lake, plan["run_id"])
        and all(_manifest(lake, plan["run_id"], k).exists() for k in range(plan["shards"]))
    ]


def staged(lake: "Lake", run_id: str, shard: int) -> dict[str, Any] | None:
    """The manifest of a shard, or None where it is not staged yet."""
    manifest = read_json(_manifest(lake, run_id, shard))
    return None if manifest is None else dict(manifest)


def stage_shard(
    lake: "Lake", run_id: str, shard: int, rows: dict[str, list[Row]], note: dict[str, Any]
) -> dict[str, Any]:
    """Stage the rows of a shard; `note` (JSON-able) goes into its manifest, which is written last."""
    if (manifest := staged(lake, run_id, shard)) is not None:
        return manifest
    tables: dict[str, Any] = {}
    for name, table_rows in rows.items():
        if not table_rows:
            continue
        stamped = [{**row, "run_id": run_id} for row in table_rows]
        data = rows_to_arrow(TABLES[name], stamped)
        if TABLES[name].blobs:
            fragments = write_fragments(data, str(lake.path(name)), mode="append", enable_stable_row_ids=True)
            tables[name] = {"fragments": [f.to_json() for f in fragments], "keys": data[TABLES[name].key].to_pylist()}
        else:
            file = f"{shard:06d}.{name}.arrow"
            write_bytes(_folder(lake, run_id) / "staged" / file, _ipc(data))
            tables[name] = {"file": file}
    manifest = {"shard": shard, "tables": tables, "note": note}
    write_json(_manifest(lake, run_id, shard), manifest)
    return manifest


def commit(lake: "Lake", run_id: str, facts: dict[str, Any] | None = None) -> dict[str, int]:
    """Commit every staged shard of a run, at most once; return the committed rows per table.

    `facts` (stage, config, counts) go into the ledger. Raises `ValueError` where a shard is not staged or a blob
    table would hold a key twice.
    """
    done = _folder(lake, run_id) / "committed.json"
    with FileLock(str(lake.root / "commit.lock")):
        if (committed := read_json(done)) is not None:
            return dict(committed)
        plan = read_json(_folder(lake, run_id) / "plan.json")
        manifests = [_staged_or_raise(lake, run_id, k) for k in range(plan["shards"])]
        entries = {}
        for name in TABLES:
            parts = [m["tables"][name] for m in manifests if name in m["tables"]]
            if parts:
                entries[name] = _commit_table(lake, run_id, name, parts, plan["bases"][name])
        _append_ledger(lake, plan, entries, facts or {})
        rows = {name: entry["rows"] for name, entry in entries.items()}
        write_json(done, rows)
        return rows


def _commit_table(lake: "Lake", run_id: str, name: str, parts: list[dict[str, Any]], base: int) -> dict[str, int]:
    """One transaction; {"version", "rows"}. A crash after it is found in the table's history."""
    dataset = lake.dataset(name)
    if (found := _own_transaction(dataset, run_id, base)) is not None:
        rows = dataset.count_rows(filter=f"run_id = '{run_id}'")
        return {"version": found, "rows": rows}
    if TABLES[name].replaces:
        return _replace(lake, name, _staged_rows(lake, run_id, name, parts, have=set()), base)
    have = lake.keys(name, TABLES[name].key)
    if TABLES[name].blobs:
        keys = [key for part in parts for key in part["keys"]]
        if len(keys) != len(set(keys)) or have & set(keys):
            raise ValueError(f"run {run_id} would store a row of {name} twice: its plan overlaps with an earlier run")
        fragments = [FragmentMetadata.from_json(json.dumps(f)) for part in parts for f in part["fragments"]]
    else:
        data = _staged_rows(lake, run_id, name, parts, have)
        if not data.num_rows:
            return {"version": dataset.version, "rows": 0}
        fragments = write_fragments(
            data, str(lake.path(name)), mode="append", enable_stable_row_ids=True, max_rows_per_file=ROWS_PER_FRAGMENT
        )
    return _append(lake, run_id, name, dataset.version, fragments)


def _append(lake: "Lake", run_id: str, name: str, version: int, fragments: list[FragmentMetadata]) -> dict[str, int]:
    transaction = lance.Transaction(
        read_version=version,
        operation=lance.LanceOperation.Append(fragments),
        transaction_properties={"run_id": run_id},
    )
    committed = lance.LanceDataset.commit(str(lake.path(name)), transaction, enable_stable_row_ids=True)
    return {"version": committed.version, "rows": sum(f.num_rows for f in fragments)}


def _replace(lake: "Lake", name: str, data: pa.Table, base: int) -> dict[str, int]:
    """Upsert; the same rows again change nothing, so a repetition after a crash is harmless."""
    key, dataset = TABLES[name].key, lake.dataset(name)
    stored = lake.scan(name, [key, "work_key"], version=base)
    before = dict(zip(stored[key].to_pylist(), stored["work_key"].to_pylist(), strict=True))
    after = zip(data[key].to_pylist(), data["work_key"].to_pylist(), strict=True)
    replaced = sum(1 for k, work in after if before.get(k, work) != work)
    # no other writer is here (the lock), so the known trouble of concurrent upserts cannot happen
    dataset.merge_insert(key).when_matched_update_all().when_not_matched_insert_all().use_index(False).execute(data)
    return {"version": dataset.latest_version, "rows": data.num_rows, "replaced": replaced}


def _staged_rows(lake: "Lake", run_id: str, name: str, parts: list[dict[str, Any]], have: set[str]) -> pa.Table:
    """Staged rows in key order, each key once, without those in `have`: two shards may stage the same row."""
    spec = TABLES[name]
    files = [_folder(lake, run_id) / "staged" / part["file"] for part in parts]
    data = pa.concat_tables([pa.ipc.open_file(path.read_bytes()).read_all() for path in files])
    fresh, seen = [], set(have)
    for key in data[spec.key].to_pylist():
        fresh.append(key not in seen)
        seen.add(key)
    return data.filter(pa.array(fresh, pa.bool_())).sort_by(spec.key).cast(spec.schema)


def _own_transaction(dataset: lance.LanceDataset, run_id: str, base: int) -> int | None:
    for version in range(dataset.version, base, -1):
        transaction = dataset.read_transaction(version)
        if transaction and (transaction.transaction_properties or {}).get("run_id") == run_id:
            return version
    return None


def _append_ledger(
    lake: "Lake", plan: dict[str, Any], entries: dict[str, dict[str, int]], facts: dict[str, Any]
) -> None:
    run_id = plan["run_id"]
    dataset = lake.dataset("ledger")
    if not entries or _own_transaction(dataset, run_id, plan["bases"]["ledger"]) is not None:
        return
    rows = [
        {
            "entry_id": stable_id("ledger", run_id, name),
            "run_id": run_id,
            "stage": facts.get("stage", ""),
            "table_name": name,
            "rows": entry["rows"],
            "replaced": entry.get("replaced", 0),
            "version": entry["version"],
            "config": json.dumps(facts.get("config", {}), sort_keys=True, default=str),
            "counts": json.dumps(facts.get("counts", {}), sort_keys=True),
            "code_version": package_version("opendimo"),
            "committed_at": time.time_ns(),
            "seconds": (time.time_ns() - plan["started_ns"]) / 1e9,
        }
        for name, entry in entries.items()
    ]
    data = rows_to_arrow(TABLES["ledger"], rows)
    fragments = write_fragments(data, str(lake.path("ledger")), mode="append", enable_stable_row_ids=True)
    _append(lake, run_id, "ledger", dataset.version, fragments)


def _staged_or_raise(lake: "Lake", run_id: str, shard: int) -> dict[str, Any]:
    if (manifest := staged(lake, run_id, shard)) is None:
        raise ValueError(f"run {run_id}: shard {shard} is not staged; run the same request again")
    return manifest


def _folder(lake: "Lake", run_id: str) -> Path:
    return lake.root / "runs" / run_id


def _manifest(lake: "Lake", run_id: str, shard: int) -> Path:
    return _folder(lake, run_id) / "staged" / f"{shard:06d}.json"


def _ipc(data: pa.Table) -> bytes:
    buffer = io.BytesIO()
    with pa.ipc.new_file(buffer, data.schema) as writer:
        writer.write_table(data)
    return buffer.getvalue()
