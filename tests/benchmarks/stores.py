"""The same bytes in a lake, in Parquet, in WebDataset, in plain files and in Lance by URI, each with what it can do.

A store reads `one(key)`, `many(keys)` and `part(key, start, size)`, and `epoch()` yields everything in storage order;
what a format cannot do is absent. Open files and indexes that fit into memory are held, as a reader would hold them.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlparse
from urllib.request import url2pathname

import lance
import pyarrow as pa
import pyarrow.parquet as pq
import webdataset

from opendimo.storage_schemas.lake import commit, runs
from opendimo.storage_schemas.lake.lake import Lake
from opendimo.storage_schemas.lake.snapshot import Snapshot
from opendimo.storage_schemas.tables import TABLES

SHARD = 64  # rows that a worker stages at once
CALL = 32  # keys in one call
TAR = 300  # samples of a WebDataset shard: about 60 MB

Make = Callable[[str], bytes]


class InLake:
    """A table of a lake with a blob column, staged and committed as a stage does it."""

    def __init__(self, folder: Path, keys: list[str], make: Make, table: str) -> None:
        self.lake, self.table, self.column, self.keys = Lake(folder), table, TABLES[table].blobs[0], keys
        row = {"clip_videos": _video_row, "latents": _latent_row}[table]
        shards = [keys[i : i + SHARD] for i in range(0, len(keys), SHARD)]
        runs.begin(self.lake, "run", {"shards": len(shards)})
        for number, shard in enumerate(shards):
            runs.stage_shard(self.lake, "run", number, {table: [row(key, make(key)) for key in shard]}, {})
        commit.commit(self.lake, "run")

    def one(self, key: str) -> bytes:
        return self.lake.blobs(self.table, self.column, [key])[0]

    def many(self, keys: list[str]) -> list[bytes]:
        return self.lake.blobs(self.table, self.column, keys)

    def part(self, key: str, start: int, size: int) -> bytes:
        with self.lake.open_blob(self.table, self.column, key) as file:
            file.seek(start)
            return file.read(size)

    def epoch(self) -> Iterator[bytes]:
        for start in range(0, len(self.keys), CALL):
            yield from self.many(self.keys[start : start + CALL])


class InParquet:
    """One Parquet file without compression, in row groups of some rows; its footer is held."""

    def __init__(self, folder: Path, keys: list[str], make: Make, rows: int) -> None:
        folder.mkdir()
        schema = pa.schema([("key", pa.string()), ("data", pa.binary())])
        with pq.ParquetWriter(folder / "all.parquet", schema, compression="none", use_dictionary=False) as writer:
            for start in range(0, len(keys), rows):
                group = keys[start : start + rows]
                writer.write_table(pa.table([pa.array(group), pa.array(map(make, group), pa.binary())], schema=schema))
        self.file = pq.ParquetFile(folder / "all.parquet")
        self.place = {key: divmod(k, rows) for k, key in enumerate(keys)}

    def one(self, key: str) -> bytes:
        group, row = self.place[key]
        return self._group(group)[row].as_py()

    def many(self, keys: list[str]) -> list[bytes]:
        groups = {group: self._group(group) for group in sorted({self.place[key][0] for key in keys})}
        return [groups[group][row].as_py() for group, row in map(self.place.__getitem__, keys)]

    def part(self, key: str, start: int, size: int) -> bytes:
        return self.one(key)[start : start + size]

    def epoch(self) -> Iterator[bytes]:
        for group in range(self.file.num_row_groups):
            yield from self._group(group).to_pylist()

    def _group(self, group: int) -> pa.ChunkedArray:
        return self.file.read_row_group(group, ["data"])["data"]


class InWebDataset:
    """Tar shards, read by the webdataset package in their order: a shuffled access has to pass by everything."""

    def __init__(self, folder: Path, keys: list[str], make: Make) -> None:
        folder.mkdir()
        with webdataset.ShardWriter(str(folder / "%06d.tar"), maxcount=TAR, verbose=0) as writer:
            for key in keys:
                writer.write({"__key__": key, "bin": make(key)})
        self.urls = sorted(map(str, folder.glob("*.tar")))

    def many(self, keys: list[str]) -> list[bytes]:
        wanted = set(keys)
        found = {s["__key__"]: s["bin"] for s in self._samples() if s["__key__"] in wanted}
        return [found[key] for key in keys]

    def epoch(self) -> Iterator[bytes]:
        return (sample["bin"] for sample in self._samples())

    def _samples(self) -> webdataset.WebDataset:
        return webdataset.WebDataset(self.urls, shardshuffle=False)


class InFiles:
    """A file per key; the table of their URIs is held."""

    def __init__(self, folder: Path, keys: list[str], make: Make) -> None:
        folder.mkdir()
        self.uris = {key: (folder / f"{key}.bin").absolute().as_uri() for key in keys}
        for key in keys:
            self._path(key).write_bytes(make(key))

    def one(self, key: str) -> bytes:
        return self._path(key).read_bytes()

    def many(self, keys: list[str]) -> list[bytes]:
        return [self.one(key) for key in keys]

    def part(self, key: str, start: int, size: int) -> bytes:
        with self._path(key).open("rb") as file:
            file.seek(start)
            return file.read(size)

    def epoch(self) -> Iterator[bytes]:
        return map(self.one, self.uris)

    def _path(self, key: str) -> Path:
        return Path(url2pathname(urlparse(self.uris[key]).path))


class InLanceByUri:
    """A Lance table whose blobs are URIs of those files, looked up by key as a lake does it."""

    def __init__(self, folder: Path, files: InFiles, table: str) -> None:
        self.column = TABLES[table].blobs[0]
        schema = pa.schema([pa.field(TABLES[table].key, pa.string()), lance.blob_field(self.column)])
        data = pa.table([pa.array(files.uris), lance.blob_array(list(files.uris.values()))], schema=schema)
        lance.write_dataset(data, str(folder), enable_stable_row_ids=True, allow_external_blob_outside_bases=True)
        self.snapshot = Snapshot(lance.dataset(str(folder)), table)

    def one(self, key: str) -> bytes:
        return self.many([key])[0]

    def many(self, keys: list[str]) -> list[bytes]:
        return self.snapshot.blobs(self.column, keys)

    def part(self, key: str, start: int, size: int) -> bytes:
        with self.snapshot.open_blob(self.column, key) as file:
            file.seek(start)
            return file.read(size)


def _video_row(key: str, data: bytes) -> dict:
    return {"clip_id": key, "video": data, "sha256": "", "work_key": key}


def _latent_row(key: str, data: bytes) -> dict:
    numbers = dict.fromkeys(("start_frame", "num_frames", "frame_step", "width", "height"), 1)
    texts = dict.fromkeys(("clip_id", "vae", "text", "work_key"), key)
    return {"latent_id": key, "latents": data, "text_embedding": b"", "shape": [], "text_shape": [], **numbers, **texts}
