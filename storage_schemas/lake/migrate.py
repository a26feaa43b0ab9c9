"""Migrate a lake of an older schema version to the current one, table by table, without rewriting video bytes.

There is one step per version. Every step is idempotent: it checks what is stored and does only what is missing, so it
can be killed at any point and run again. The new version is written to the marker `lake.json` last. To add a version:
raise `SCHEMA_VERSION`, write a step, and add it to `STEPS`.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import lance
import pyarrow as pa
from filelock import FileLock

from opendimo.storage_schemas.ids import stable_id
from opendimo.storage_schemas.lake import commit, runs
from opendimo.storage_schemas.lake.lake import MARKER, Lake, make_table
from opendimo.storage_schemas.lake.store import LocalStore, read_json, write_json
from opendimo.storage_schemas.lake.takedown import tombstone_id
from opendimo.storage_schemas.releases.release import write_release_files
from opendimo.storage_schemas.rows import Row, arrow_bytes, rows_to_arrow
from opendimo.storage_schemas.tables import SCHEMA_VERSION, TABLES

RUN = "migration to schema 2"
FORMER_SCORE = "hands_visible"
"""Column of `clips` before schema 6; hands are now measured by a stage of their own, in the table `hands`."""


def version_of(lake: Lake) -> int:
    """Return the schema version of a lake."""
    return int(read_json(lake.store, MARKER)["schema_version"])


def plan_migration(lake: Lake) -> list[str]:
    """Return descriptions of what `migrate` would do; empty if the lake has the current schema version."""
    return [line for version in range(version_of(lake), SCHEMA_VERSION) for line in STEPS[version][0]]


def migrate(lake: Lake) -> list[str]:
    """Migrate a lake (opened with `migrating`) to the current schema version; return descriptions of what was done.

    Holds the locks `release` and `commit`, so that no other process writes to the lake meanwhile.
    """
    done = plan_migration(lake)
    for version in range(version_of(lake), SCHEMA_VERSION):
        STEPS[version][1](lake)
        write_json(lake.store, MARKER, {"schema_version": version + 1})
    return done


def _to_newest(lake: Lake) -> None:
    with _locked(lake):
        _add_missing_tables_and_columns(lake)
        for plan in runs.unfinished(lake):
            for manifest in _manifests(lake, plan["run_id"]).values():
                for table, part in manifest["tables"].items():
                    if "file" in part:
                        _restage(lake, table, part["file"])


def _add_missing_tables_and_columns(lake: Lake) -> None:
    """Create missing tables, and add missing nullable columns to existing ones.

    Adding a column creates a new version of the table without new data files, so pinned versions do not change.
    """
    for name, table in TABLES.items():
        make_table(lake.table_uri(name), table.schema)
        stored = lake.dataset(name)
        missing = [field for field in table.schema if field.name not in stored.schema.names]
        nullable = [field for field in missing if field.nullable]
        if nullable:
            stored.add_columns(pa.schema(nullable))


def _to_6(lake: Lake) -> None:
    _to_newest(lake)
    with _locked(lake):
        clips = lake.dataset("clips")
        if FORMER_SCORE in clips.schema.names:
            clips.drop_columns([FORMER_SCORE])


def _to_2(lake: Lake) -> None:
    with _locked(lake):
        _add_missing_tables_and_columns(lake)  # the code below reads and writes the newest schema
        _convert_tombstones(lake)
        _convert_releases(lake)
        for plan in runs.unfinished(lake):
            _prepare_run(lake, plan)
    for plan in runs.unfinished(lake):  # outside the lock, because `commit` takes it
        commit.commit(lake, plan["run_id"], partial(_facts, plan))


def _convert_tombstones(lake: Lake) -> None:
    """Convert the column `tombstone` of `sources` to rows of the table `tombstones`."""
    sources = lake.dataset("sources")
    if "tombstone" not in sources.schema.names:
        return
    down = sources.to_table(columns=["source_id", "fetched_at"], filter="tombstone").to_pylist()
    rows = [
        {
            "tombstone_id": tombstone_id("source_id", row["source_id"]),
            "what": "source_id",
            "value": row["source_id"],
            "reason": "taken down before reasons were kept",
            "by": "unknown",
            "in_force": True,
            "decided_at": row["fetched_at"],
        }
        for row in down
    ]
    _insert(lake, "tombstones", rows)
    sources.drop_columns(["tombstone"])


def _convert_releases(lake: Lake) -> None:
    """Write the files of every release, and convert its approver to a row of `decisions`."""
    table = TABLES["releases"]
    stored = lake.dataset("releases")
    if "pair_ids" not in stored.schema.names:
        return
    if "inventory_sha256" not in stored.schema.names:  # `write_release_files` reads this column
        stored.add_columns(pa.field("inventory_sha256", pa.string()))
    old = stored.to_table().to_pylist()
    rows = [_release(lake, row) for row in old]
    _insert(lake, "decisions", [_decision(row) for row in old if row["approver"] is not None])
    # rewritten in one transaction; releases do not pin versions of this table
    lance.write_dataset(
        rows_to_arrow(table, rows), stored.uri, schema=table.schema, mode="overwrite", enable_stable_row_ids=True
    )


def _release(lake: Lake, old: Row) -> Row:
    kept = {name: value for name, value in old.items() if name not in ("pair_ids", "approver")}
    return kept | {
        "pairs": len(old["pair_ids"]),
        "inventory_sha256": write_release_files(lake, old["release_id"], pa.array(old["pair_ids"]), old["pins"]),
        "needs_approval": old["approver"] is not None,
    }


def _decision(release: Row) -> Row:
    return {
        "decision_id": stable_id("decision", release["release_id"], 0),
        "release_id": release["release_id"],
        "number": 0,
        "decision": "approved",
        "by": release["approver"],
        "note": None,
        "decided_at": release["created_at"],
    }


def _insert(lake: Lake, name: str, rows: list[Row]) -> None:
    """Insert the rows whose keys are not stored yet."""
    if rows:
        table = TABLES[name]
        data = rows_to_arrow(table, [{**row, "run_id": stable_id(RUN)} for row in rows])
        lake.dataset(name).merge_insert(table.key).when_not_matched_insert_all().use_index(False).execute(data)


def _prepare_run(lake: Lake, plan: dict[str, Any]) -> None:
    """Prepare a fully staged run for its commit, or delete a run that was killed before it was fully staged.

    Of a deleted run nothing was committed, so its work is planned again.
    """
    run_id = plan["run_id"]
    names = lake.store.sizes(f"runs/{run_id}")
    manifests = _manifests(lake, run_id)
    if "stage" not in plan or len(manifests) < plan["shards"]:
        for name in sorted(names, key=lambda name: (name.endswith("/plan.json"), not name.endswith(".json"))):
            lake.store.delete(name)
        return
    for name, manifest in manifests.items():
        for table, part in manifest["tables"].items():
            if "file" in part and "/" not in part["file"]:  # schema 1 stored names relative to the run's folder
                part["file"] = f"runs/{run_id}/staged/{part['file']}"
                _restage(lake, table, part["file"])
        write_json(lake.store, name, manifest)


def _manifests(lake: Lake, run_id: str) -> dict[str, dict[str, Any]]:
    """Return the manifests of the staged shards of a run by file name."""
    names = [name for name in lake.store.sizes(f"runs/{run_id}") if "/staged/" in name and name.endswith(".json")]
    return {name: read_json(lake.store, name) for name in names}


def _facts(plan: dict[str, Any], notes: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the ledger facts of a run that was planned under schema 1."""
    rejected: dict[str, int] = {}
    for note in notes:
        for word, count in note.get("rejected", {}).items():
            rejected[word] = rejected.get(word, 0) + count
    counts = {"in": plan["fresh"], "done": sum(note.get("done", 0) for note in notes), "rejected": rejected}
    return {"stage": plan["stage"], "config": plan["config"], "counts": counts}


def _restage(lake: Lake, table: str, file: str) -> None:
    """Rewrite staged rows with the columns of the current schema. Raises `ValueError` if the file is missing."""
    content = lake.store.read(file)
    if content is None:
        raise ValueError(f"{lake.uri}: staged file {file} is missing: delete the folder of its run and migrate again")
    staged, schema = pa.ipc.open_file(content).read_all(), TABLES[table].schema
    nulls = {field.name: pa.nulls(staged.num_rows, field.type) for field in schema if field.nullable}
    columns = [staged[name] if name in staged.schema.names else nulls[name] for name in schema.names]
    lake.store.write(file, arrow_bytes(pa.Table.from_arrays(columns, schema=schema)))


@contextmanager
def _locked(lake: Lake) -> Iterator[None]:
    """Hold the locks of commits and releases, and those of schema 1, which had other file names."""
    with ExitStack() as held:
        held.enter_context(lake.lock("release"))
        held.enter_context(lake.lock("commit"))
        if isinstance(lake.store, LocalStore):
            for name in ("release.lock", "commit.lock"):
                held.enter_context(FileLock(str(lake.store.root / name), fallback_to_soft=False))
        yield


STEPS: dict[int, tuple[list[str], Callable[[Lake], None]]] = {
    1: (
        [
            "create the tables tombstones and decisions",
            "convert the tombstone flags of sources to rows of tombstones, and drop the column",
            "write the pairs and the list of files of every release, and convert its approval to a row of decisions",
            "complete runs that were fully staged when they were killed, and delete those that were killed earlier",
        ],
        _to_2,
    ),
    2: (
        ["add new tables and columns; no row or video is rewritten, and releases do not change"],
        _to_newest,
    ),
    3: (
        ["add the columns latents.caption_hash and pairs.split_group; run `dimo encode` again for a text per window"],
        _to_newest,
    ),
    4: (
        ["add columns and tables of schema 5; no row or video is rewritten, and releases do not change"],
        _to_newest,
    ),
    5: (
        [
            "add the table hands and drop the column clips.hands_visible, which was estimated from the body; "
            "run `dimo ingest` again to measure hands"
        ],
        _to_6,
    ),
    6: (
        ["add columns of schema 7; no row or video is rewritten, and releases do not change"],
        _to_newest,
    ),
    7: (
        ["add the column poses.landmarks_2d; run `dimo label` again for labels that have it"],
        _to_newest,
    ),
}
"""Migration steps by the version they start from: descriptions, and the function."""
