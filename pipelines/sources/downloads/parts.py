"""On-disk state of a URL's download: a part file that survives its writer, and a record of the completed file.

    <cache>/<sha256>               completed files, named by their content hash
    <cache>/urls/<hash of URL>     record of a completed download, in JSON
    <cache>/parts/<hash of URL>    .part: bytes received so far; .json: the version of the file that they belong to

A part is renamed to its content hash only when it is complete, and the record is written last. Each step can be
detected afterwards: if the process is killed at any point, the next attempt continues there and does not request bytes
that are already on disk.
"""

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO

from filelock import FileLock

from opendimo.storage_schemas.ids import stable_id
from opendimo.storage_schemas.lake.files import read_json, sync_folder, write_bytes, write_json

RECORDS, PARTS = "urls", "parts"


@dataclass(frozen=True)
class Version:
    """The version of a file that a part belongs to.

    `length`: in bytes, None if the server did not state it; `etag` and `modified`: as sent by the server; `sha256`: set
    once the part is complete.
    """

    length: int | None = None
    etag: str | None = None
    modified: str | None = None
    sha256: str | None = None

    @property
    def validator(self) -> str | None:
        """Return the value for `If-Range`: a strong entity tag, or else the last-modified date."""
        strong = self.etag if self.etag and not self.etag.startswith("W/") else None
        return strong or self.modified


@dataclass(frozen=True)
class Record:
    """Record of a completed download."""

    sha256: str
    bytes: int
    etag: str | None
    fetch: dict[str, object]  # `fetches` row of the attempt that completed it


class Place:
    """Files of one URL in the cache."""

    def __init__(self, cache: Path, url: str) -> None:
        self.cache = cache
        name = stable_id(url)
        self._record = cache / RECORDS / name
        self._part = cache / PARTS / f"{name}.part"
        self._version = cache / PARTS / f"{name}.json"
        self._lock = cache / PARTS / f"{name}.lock"

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the machine-wide lock of the URL; other processes wait and then find the file in the cache."""
        self._part.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(self._lock, fallback_to_soft=False):
            yield

    def known(self) -> tuple[Path, Record | None] | None:
        """Return the cached file and its record (None for files cached by older versions), or None if not cached."""
        if not self._record.is_file():
            return None
        text = self._record.read_text()
        record = Record(**json.loads(text)) if text.startswith("{") else None
        path = self.cache / (record.sha256 if record else text)
        return (path, record) if path.is_file() else None

    def open(self) -> "Part":
        """Return the part with the bytes received so far."""
        return Part(self._part, self._version, self.version() if self._part.is_file() else Version())

    def finish(self, part: "Part") -> Path:
        """Rename a complete part to its content hash and return its path."""
        path = self.cache / part.close()
        os.replace(self._part, path)
        sync_folder(self.cache)
        return path

    def finished(self) -> Path | None:
        """Return the file of an attempt that was killed after its last byte but before its record; else None."""
        version = self.version()
        if version.sha256 is not None and (path := self.cache / version.sha256).is_file():
            return path
        stored = self._part.stat().st_size if self._part.is_file() else 0
        complete = version.sha256 is not None or version.length == stored
        return self.finish(self.open()) if stored and complete else None

    def write_record(self, record: Record) -> None:
        """Write the record of the completed file, and remove the part."""
        write_bytes(self._record, json.dumps(asdict(record), sort_keys=True).encode())
        self.drop_part()

    def version(self) -> Version:
        """Return the version of the file that the part belongs to."""
        content = read_json(self._version)
        return Version(**content) if isinstance(content, dict) else Version()

    def drop_part(self) -> None:
        """Remove the part, if any."""
        self._version.unlink(missing_ok=True)
        self._part.unlink(missing_ok=True)

    def forget(self, and_file: bool) -> None:
        """Remove the record of an unusable file, and with `and_file` the file too."""
        if and_file and (known := self.known()) is not None:
            known[0].unlink(missing_ok=True)
        self._record.unlink(missing_ok=True)


class Part:
    """The bytes of a file received so far, with the version of the file that they belong to."""

    def __init__(self, path: Path, facts: Path, version: Version) -> None:
        self.version = version
        self._path, self._facts = path, facts
        self._digest = hashlib.sha256()
        self._stream: BinaryIO | None = None
        self.size = path.stat().st_size if path.is_file() and version.validator else 0

    def begin(self, version: Version) -> None:
        """Start over, with this version of the file."""
        self.abandon()
        self._path.unlink(missing_ok=True)
        self.version, self.size, self._digest = version, 0, hashlib.sha256()
        write_json(self._facts, asdict(version))
        self._stream = open(self._path, "wb")  # noqa: SIM115  (`close` and `abandon` close it)

    def resume(self) -> None:
        """Open the part for appending, and hash the bytes received so far."""
        self._stream = open(self._path, "r+b")  # noqa: SIM115
        for block in iter(lambda: self._open_stream().read(1 << 20), b""):
            self._digest.update(block)

    def append(self, data: bytes) -> None:
        """Append the next bytes."""
        self._open_stream().write(data)
        self._digest.update(data)
        self.size += len(data)

    def close(self) -> str:
        """Sync a complete part to disk, store its SHA-256 and return it."""
        if self._stream is None:
            self.resume()
        stream = self._open_stream()
        stream.flush()
        os.fsync(stream.fileno())
        self.abandon()
        digest = self._digest.hexdigest()
        write_json(self._facts, {**asdict(self.version), "sha256": digest})
        return digest

    def abandon(self) -> None:
        """Close the part and keep its bytes for the next attempt."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def _open_stream(self) -> BinaryIO:
        assert self._stream is not None, "call begin or resume first"
        return self._stream
