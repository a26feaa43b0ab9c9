"""Open and read a lake: a folder or object-store prefix that contains one Lance table per entry of `TABLES` and the
files of the commit protocol."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import lance
import pyarrow as pa

from opendimo.storage_schemas.ids import stable_id
from opendimo.storage_schemas.lake import commit, runs
from opendimo.storage_schemas.lake.lock import Check, lock
from opendimo.storage_schemas.lake.snapshot import Snapshot
from opendimo.storage_schemas.lake.store import open_store, read_json, write_json
from opendimo.storage_schemas.lake.unreadable import naming
from opendimo.storage_schemas.lake.uri import lake_uri
from opendimo.storage_schemas.rows import Row, arrow_to_rows
from opendimo.storage_schemas.tables import SCHEMA_VERSION, TABLES

MARKER = "lake.json"


class Lake:
    """Read access to a lake. All writes go through `storage_schemas.lake.commit`.

    `uri` is a local path or a URL (s3://bucket/prefix, gs://, az://; credentials and endpoint come from the
    environment). If there is no lake at `uri`, its tables are created, unless it must be an `existing` one. Raises
    `FileNotFoundError` if that is missing. Raises `ValueError` if the lake has a newer schema version, if it has an
    older one (unless `migrating`), or if the store does not support conditional writes.
    """

    def __init__(self, uri: str | Path, migrating: bool = False, existing: bool = False) -> None:
        self.uri = lake_uri(uri)
        self.store = open_store(self.uri)
        self._snapshots: dict[str, Snapshot] = {}
        marker = read_json(self.store, MARKER)
        if marker is None and existing:
            raise FileNotFoundError(f"{self.uri} is not a lake, or was deleted or moved: `dimo ingest` makes a new one")
        if marker is None:
            self._create()
        elif (version := int(marker["schema_version"])) > SCHEMA_VERSION:
            raise ValueError(f"{self.uri} has schema {version}, this code supports {SCHEMA_VERSION}: upgrade opendimo")
        elif version < SCHEMA_VERSION and not migrating:
            raise ValueError(
                f"{self.uri} has schema {version}, this code needs {SCHEMA_VERSION}: "
                f"run `dimo migrate --lake {self.uri}`"
            )

    def __reduce__(self) -> tuple[type["Lake"], tuple[str, bool, bool]]:
        """Pickle as the address, which is opened anew; a lake that was deleted meanwhile is not created again."""
        return type(self), (self.uri, False, True)

    @property
    def local(self) -> Path:
        """Local folder for working files of the lake: the lake's own folder, or a cache folder for a remote lake."""
        return local_folder(self.uri)

    def table_uri(self, table: str) -> str:
        """Return the path or URL of a table."""
        return f"{self.uri}/tables/{table}.lance"

    def dataset(self, table: str, version: int | str | None = None) -> lance.LanceDataset:
        """Open a table at its newest or at a given version (number or tag).

        Raises `KeyError` for an unknown table and `UnreadableTable` for a damaged one, as all methods that read.
        """
        if table not in TABLES:
            raise KeyError(f"no table {table!r}; tables: {', '.join(TABLES)}")
        with naming(self.table_uri(table)):
            return lance.dataset(self.table_uri(table), version=version)

    def scan(
        self, table: str, columns: list[str] | None = None, where: str | None = None, version: int | None = None
    ) -> pa.Table:
        """Return rows as an Arrow table in key order, without blobs. `where` is an SQL condition."""
        dataset = self.dataset(table, version)
        with naming(self.table_uri(table)):
            return scan(dataset, table, columns, where)

    def column(self, table: str, column: str, where: str | None = None) -> pa.ChunkedArray:
        """Return one column in storage order: the cheapest way to read it."""
        dataset = self.dataset(table)
        with naming(self.table_uri(table)):
            return dataset.to_table(columns=[column], filter=where)[column]

    def read(self, table: str, columns: list[str] | None = None, where: str | None = None) -> list[Row]:
        """Return rows as dicts in key order, without blobs; arrays are float32 numpy arrays. `where`: SQL condition."""
        return arrow_to_rows(self.scan(table, columns, where))

    def blobs(self, table: str, column: str, keys: list[str]) -> list[bytes]:
        """Return blobs by primary key, in the order of `keys`. Raises `KeyError`, naming the first missing key."""
        snapshot = self._snapshot(table)
        with naming(self.table_uri(table)):
            return snapshot.blobs(column, keys)

    def open_blob(self, table: str, column: str, key: str) -> BinaryIO:
        """Open one blob as a seekable file that fetches only the ranges read. Raises `KeyError` if `key` is missing."""
        return self._snapshot(table).open_blob(column, key)

    @contextmanager
    def lock(self, name: str, wait: bool = True) -> Iterator[Check]:
        """Hold a lock of this lake, see `storage_schemas.lake.lock`."""
        with lock(self.store, name, wait) as check:
            yield check

    def append(self, run_id: str, rows: dict[str, list[Row]]) -> None:
        """Stage and commit rows by table in one call, exactly once per `run_id`."""
        runs.begin(self, run_id, {"shards": 1})
        runs.stage_shard(self, run_id, 0, rows, {})
        commit.commit(self, run_id)

    def _snapshot(self, table: str) -> Snapshot:
        """Return the newest version of a table for access by key; cached until the version changes."""
        dataset = self.dataset(table)
        snapshot = self._snapshots.get(table)
        if snapshot is None or snapshot.dataset.version != dataset.version:
            snapshot = self._snapshots[table] = Snapshot(dataset, table)
        return snapshot

    def _create(self) -> None:
        if not self.store.keeps_conditions():
            raise ValueError(
                f"{self.uri}: the store ignores conditional writes (If-None-Match, If-Match), so two writers could "
                "both commit: use another store, or a local folder"
            )
        with self.lock("make"):  # if two processes created a table at once, the later one would empty it
            if read_json(self.store, MARKER) is not None:
                return
            for table in TABLES.values():
                make_table(self.table_uri(table.name), table.schema)
            write_json(self.store, MARKER, {"schema_version": SCHEMA_VERSION})


def local_folder(uri: str) -> Path:
    """Return `Lake.local` of the lake at `uri`, without opening it."""
    normalised = lake_uri(uri)
    if "://" not in normalised:
        return Path(normalised)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "opendimo" / "lakes" / stable_id("lake", normalised)[:16]


def is_lake(uri: str | Path) -> bool:
    """Return whether there is a lake at `uri`."""
    return open_store(lake_uri(uri)).read(MARKER) is not None


def make_table(uri: str, schema: pa.Schema) -> None:
    """Create an empty table if there is none at `uri`. The caller must hold a lock of the lake."""
    try:
        lance.dataset(uri)
    except ValueError:  # raised by Lance if there is no dataset
        lance.write_dataset(schema.empty_table(), uri, schema=schema, enable_stable_row_ids=True)


def scan(dataset: lance.LanceDataset, table: str, columns: list[str] | None, where: str | None) -> pa.Table:
    """Return rows of a dataset of `table` in key order, without blobs.

    By default all columns of the schema that this version of the dataset has: an older version may lack some.
    """
    spec, stored_columns = TABLES[table], set(dataset.schema.names)
    selected = columns or [name for name in spec.schema.names if name not in spec.blobs and name in stored_columns]
    data = dataset.to_table(columns=list(dict.fromkeys([*selected, spec.key])), filter=where)
    return data.sort_by(spec.key).select(selected)
