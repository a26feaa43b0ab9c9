"""A lake: a folder with one Lance table per entry of `TABLES`, and the files of the commit protocol beside them."""

import json
from pathlib import Path

import lance
import pyarrow as pa

from storage_schemas.files import write_json
from storage_schemas.rows import Row, arrow_to_rows
from storage_schemas.tables import SCHEMA_VERSION, TABLES

IN_LIST = 2000  # keys per `IN (...)` filter


class Lake:
    """Reads of a lake. Writing goes through `storage_schemas.commit` alone.

    Opening creates the folder and its empty tables. Raises `ValueError` where the lake was written by a newer version.
    """

    def __init__(self, uri: str | Path) -> None:
        self.root = Path(uri)
        marker = self.root / "lake.json"
        if marker.exists():
            version = json.loads(marker.read_text())["schema_version"]
            if version > SCHEMA_VERSION:
                raise ValueError(
                    f"{self.root} has schema {version}, this code knows {SCHEMA_VERSION}: upgrade opendimo"
                )
            return
        for table in TABLES.values():
            if not self.path(table.name).exists():
                lance.write_dataset(
                    table.schema.empty_table(),
                    str(self.path(table.name)),
                    schema=table.schema,
                    enable_stable_row_ids=True,
                )
        write_json(marker, {"schema_version": SCHEMA_VERSION})

    @property
    def uri(self) -> str:
        """Where the lake is, as stages carry it between processes."""
        return str(self.root)

    def path(self, table: str) -> Path:
        """The folder of a table."""
        return self.root / "tables" / f"{table}.lance"

    def dataset(self, table: str, version: int | str | None = None) -> lance.LanceDataset:
        """A handle of a table at its newest, or a given, version (number or tag)."""
        if table not in TABLES:
            raise KeyError(f"no table {table!r}; there are {', '.join(TABLES)}")
        return lance.dataset(str(self.path(table)), version=version)

    def scan(
        self, table: str, columns: list[str] | None = None, where: str | None = None, version: int | None = None
    ) -> pa.Table:
        """Rows as an Arrow table, without blobs. `where` is an SQL condition."""
        return scan(self.dataset(table, version), table, columns, where)

    def read(self, table: str, columns: list[str] | None = None, where: str | None = None) -> list[Row]:
        """Rows as dicts, without blobs; arrays as float32 numpy arrays. `where` is an SQL condition."""
        return arrow_to_rows(self.scan(table, columns, where))

    def keys(self, table: str, column: str) -> set[str]:
        """The distinct values of a text column."""
        return set(self.scan(table, [column])[column].to_pylist())

    def blobs(self, table: str, column: str, keys: list[str]) -> list[bytes]:
        """Bytes of a blob column by primary key, in the order asked. Raises `KeyError` naming what is missing."""
        return blobs(self.dataset(table), table, column, keys)

    def append(self, run_id: str, rows: dict[str, list[Row]]) -> None:
        """Stage and commit rows at once, exactly once per `run_id`."""
        from storage_schemas import commit

        commit.begin(self, run_id, {"shards": 1})
        commit.stage_shard(self, run_id, 0, rows, {})
        commit.commit(self, run_id)


def scan(dataset: lance.LanceDataset, table: str, columns: list[str] | None, where: str | None) -> pa.Table:
    """Rows of a dataset of `table` in key order, without blobs."""
    spec = TABLES[table]
    wanted = columns or [name for name in spec.schema.names if name not in spec.blobs]
    data = dataset.to_table(columns=list(dict.fromkeys([*wanted, spec.key])), filter=where)
    return data.sort_by(spec.key).select(wanted)


def blobs(dataset: lance.LanceDataset, table: str, column: str, keys: list[str]) -> list[bytes]:
    """Bytes of a blob column of a dataset of `table` by primary key, in the order asked."""
    key = TABLES[table].key
    found: dict[str, int] = {}
    for start in range(0, len(keys), IN_LIST):
        listed = ", ".join("'" + k.replace("'", "''") + "'" for k in keys[start : start + IN_LIST])
        rows = dataset.to_table(columns=[key], filter=f"{key} IN ({listed})", with_row_id=True)
        found |= dict(zip(rows[key].to_pylist(), rows["_rowid"].to_pylist(), strict=True))
    if missing := [k for k in keys if k not in found]:
        raise KeyError(f"{table} has no row {missing[0]}" + (f" and {len(missing) - 1} more" if missing[1:] else ""))
    ids = sorted(set(found.values()))  # reads in storage order are several times faster
    read = dataset.read_blobs(column, ids=ids, preserve_order=True)
    bytes_of = {row_id: blob or b"" for row_id, (_, blob) in zip(ids, read, strict=True)}
    return [bytes_of[found[k]] for k in keys]
