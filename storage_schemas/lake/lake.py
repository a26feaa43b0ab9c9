"""A lake: a folder or object-store prefix with one Lance table per entry of `TABLES`, and the files of the commit
protocol beside them."""

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
from opendimo.storage_schemas.rows import Row, arrow_to_rows
from opendimo.storage_schemas.tables import SCHEMA_VERSION, TABLES

MARKER = "lake.json"


class Lake:
    """Reads of a lake. Writing goes through `storage_schemas.commit` alone.

    `uri` is a local path or a URL (s3://bucket/prefix, gs://, az://; credentials and endpoint come from the
    environment). Opening makes the tables where there is no lake. Raises `ValueError` where a newer version wrote it,
    where an older one did (unless `migrating`), and where the store does not keep conditional writes.
    """

    def __init__(self, uri: str | Path, migrating: bool = False) -> None:
        self.uri = lake_uri(uri)
        self.store = open_store(self.uri)
        self._snapshots: dict[str, Snapshot] = {}
        marker = read_json(self.store, MARKER)
        if marker is None:
            self._make()
        elif (version := int(marker["schema_version"])) > SCHEMA_VERSION:
            raise ValueError(f"{self.uri} has schema {version}, this code knows {SCHEMA_VERSION}: upgrade opendimo")
        elif version < SCHEMA_VERSION and not migrating:
            raise ValueError(
                f"{self.uri} has schema {version}, this code needs {SCHEMA_VERSION}: "
                f"run `dimo migrate --lake {self.uri}`"
            )

    @property
    def local(self) -> Path:
        """Where this machine keeps working files of the lake: its own folder, or a cache of a remote one."""
        return local_folder(self.uri)

    def table_uri(self, table: str) -> str:
        """Where a table is."""
        return f"{self.uri}/tables/{table}.lance"

    def dataset(self, table: str, version: int | str | None = None) -> lance.LanceDataset:
        """A handle of a table at its newest, or a given, version (number or tag)."""
        if table not in TABLES:
            raise KeyError(f"no table {table!r}; there are {', '.join(TABLES)}")
        return lance.dataset(self.table_uri(table), version=version)

    def scan(
        self, table: str, columns: list[str] | None = None, where: str | None = None, version: int | None = None
    ) -> pa.Table:
        """Rows as an Arrow table in key order, without blobs. `where` is an SQL condition."""
        return scan(self.dataset(table, version), table, columns, where)

    def column(self, table: str, column: str, where: str | None = None) -> pa.ChunkedArray:
        """One column in storage order: the cheapest way to it."""
        return self.dataset(table).to_table(columns=[column], filter=where)[column]

    def read(self, table: str, columns: list[str] | None = None, where: str | None = None) -> list[Row]:
        """Rows as dicts in key order, without blobs; arrays as float32 numpy arrays. `where` is an SQL condition."""
        return arrow_to_rows(self.scan(table, columns, where))

    def blobs(self, table: str, column: str, keys: list[str]) -> list[bytes]:
        """Bytes of a blob column by primary key, in the order asked. Raises `KeyError` naming what is missing."""
        return self._snapshot(table).blobs(column, keys)

    def open_blob(self, table: str, column: str, key: str) -> BinaryIO:
        """One blob as a seekable file: only the ranges that are read are fetched. Raises `KeyError`."""
        return self._snapshot(table).open_blob(column, key)

    @contextmanager
    def lock(self, name: str, wait: bool = True) -> Iterator[Check]:
        """Hold a lock of this lake, see `storage_schemas.lock`."""
        with lock(self.store, name, wait) as check:
            yield check

    def append(self, run_id: str, rows: dict[str, list[Row]]) -> None:
        """Stage and commit rows at once, exactly once per `run_id`."""
        runs.begin(self, run_id, {"shards": 1})
        runs.stage_shard(self, run_id, 0, rows, {})
        commit.commit(self, run_id)

    def _snapshot(self, table: str) -> Snapshot:
        """The newest version of a table, ready for access by key."""
        dataset = self.dataset(table)
        held = self._snapshots.get(table)
        if held is None or held.dataset.version != dataset.version:
            held = self._snapshots[table] = Snapshot(dataset, table)
        return held

    def _make(self) -> None:
        if not self.store.keeps_conditions():
            raise ValueError(
                f"{self.uri}: the store ignores conditional writes (If-None-Match, If-Match), so two writers could "
                "both commit: use another store, or a local folder"
            )
        with self.lock("make"):  # of two that make a table at once, the later would empty it
            if read_json(self.store, MARKER) is not None:
                return
            for table in TABLES.values():
                make_table(self.table_uri(table.name), table.schema)
            write_json(self.store, MARKER, {"schema_version": SCHEMA_VERSION})


def lake_uri(uri: str | Path) -> str:
    """The one way to write where a lake is: an absolute path, or a URL without a slash at its end."""
    text = str(uri)
    return text.rstrip("/") if "://" in text else str(Path(text).expanduser().absolute())


def local_folder(uri: str) -> Path:
    """`Lake.local` of the lake at `uri`, without opening it."""
    place = lake_uri(uri)
    if "://" not in place:
        return Path(place)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "opendimo" / "lakes" / stable_id("lake", place)[:16]


def is_lake(uri: str | Path) -> bool:
    """Whether there is a lake at `uri`."""
    return open_store(lake_uri(uri)).read(MARKER) is not None


def make_table(uri: str, schema: pa.Schema) -> None:
    """An empty table where there is none; hold a lock of the lake."""
    try:
        lance.dataset(uri)
    except ValueError:  # Lance's way to say that nothing is there
        lance.write_dataset(schema.empty_table(), uri, schema=schema, enable_stable_row_ids=True)


def scan(dataset: lance.LanceDataset, table: str, columns: list[str] | None, where: str | None) -> pa.Table:
    """Rows of a dataset of `table` in key order, without blobs; an older version has the columns of its time."""
    spec, there = TABLES[table], set(dataset.schema.names)
    wanted = columns or [name for name in spec.schema.names if name not in spec.blobs and name in there]
    data = dataset.to_table(columns=list(dict.fromkeys([*wanted, spec.key])), filter=where)
    return data.sort_by(spec.key).select(wanted)
