"""What is on the disk of a URL: a part that grows and survives its writer, and the record of a file that is whole.

    <cache>/<sha256>               the files, named by their content
    <cache>/urls/<hash of URL>     what was fetched, once it is whole: its facts in JSON
    <cache>/parts/<hash of URL>    .part: the bytes so far; .json: of which version of the file they are

A file is whole before it has its name, its record comes last, and each step is found again: killed anywhere, the next
attempt goes on there and asks the server for nothing that is on the disk.
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
    """Which version of a file the bytes of a part are: `length` None where the server did not say; `etag` and
    `modified` as the server wrote them; `sha256` once the part is whole."""

    length: int | None = None
    etag: str | None = None
    modified: str | None = None
    sha256: str | None = None

    @property
    def validator(self) -> str | None:
        """What a request for the rest can be tied to: a strong entity tag, or else the date of the last change."""
        strong = self.etag if self.etag and not self.etag.startswith("W/") else None
        return strong or self.modified


@dataclass(frozen=True)
class Record:
    """The facts about a file that was fetched."""

    sha256: str
    bytes: int
    etag: str | None
    fetch: dict[str, object]  # the row of `fetches` of the attempt that ended it


class Place:
    """The files of one URL in a cache."""

    def __init__(self, cache: Path, url: str) -> None:
        self.cache = cache
        name = stable_id(url)
        self._record = cache / RECORDS / name
        self._part = cache / PARTS / f"{name}.part"
        self._version = cache / PARTS / f"{name}.json"
        self._lock = cache / PARTS / f"{name}.lock"

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Be the only one on this machine who fetches the URL; others wait and find the file."""
        self._part.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(self._lock, fallback_to_soft=False):
            yield

    def known(self) -> tuple[Path, Record | None] | None:
        """The file that was fetched, and its record (None where an older version of this code wrote it)."""
        if not self._record.is_file():
            return None
        text = self._record.read_text()
        record = Record(**json.loads(text)) if text.startswith("{") else None
        path = self.cache / (record.sha256 if record else text)
        return (path, record) if path.is_file() else None

    def open(self) -> "Part":
        """The part, as far as it is there."""
        return Part(self._part, self._version, self.version() if self._part.is_file() else Version())

    def finish(self, part: "Part") -> Path:
        """Give a whole part its name."""
        path = self.cache / part.close()
        os.replace(self._part, path)
        sync_folder(self.cache)
        return path

    def finished(self) -> Path | None:
        """The file of an attempt that was killed between its last byte and its record; None where there is none."""
        version = self.version()
        if version.sha256 is not None and (path := self.cache / version.sha256).is_file():
            return path
        stored = self._part.stat().st_size if self._part.is_file() else 0
        whole = version.sha256 is not None or version.length == stored
        return self.finish(self.open()) if stored and whole else None

    def write_record(self, record: Record) -> None:
        """Write down that the file is there, and forget the part."""
        write_bytes(self._record, json.dumps(asdict(record), sort_keys=True).encode())
        self.drop_part()

    def version(self) -> Version:
        """Of which version of the file the bytes are that are there."""
        content = read_json(self._version)
        return Version(**content) if isinstance(content, dict) else Version()

    def drop_part(self) -> None:
        """Remove what there is of a part."""
        self._version.unlink(missing_ok=True)
        self._part.unlink(missing_ok=True)

    def forget(self, and_file: bool) -> None:
        """Remove the record of a file that turned out useless, and perhaps the file."""
        if and_file and (known := self.known()) is not None:
            known[0].unlink(missing_ok=True)
        self._record.unlink(missing_ok=True)


class Part:
    """The bytes of a file so far, and which version of it they are."""

    def __init__(self, path: Path, facts: Path, version: Version) -> None:
        self.version = version
        self._path, self._facts = path, facts
        self._digest = hashlib.sha256()
        self._stream: BinaryIO | None = None
        self.size = path.stat().st_size if path.is_file() and version.validator else 0

    def begin(self, version: Version) -> None:
        """Start over with this version of the file."""
        self.abandon()
        self._path.unlink(missing_ok=True)
        self.version, self.size, self._digest = version, 0, hashlib.sha256()
        write_json(self._facts, asdict(version))
        self._stream = open(self._path, "wb")  # noqa: SIM115  (`close` and `abandon` close it)

    def resume(self) -> None:
        """Go on behind the bytes that are there."""
        self._stream = open(self._path, "r+b")  # noqa: SIM115
        for block in iter(lambda: self._reading().read(1 << 20), b""):
            self._digest.update(block)

    def append(self, data: bytes) -> None:
        """Add the next bytes."""
        self._reading().write(data)
        self._digest.update(data)
        self.size += len(data)

    def close(self) -> str:
        """The part is whole: make it durable, and write down its hash, which is returned."""
        if self._stream is None:
            self.resume()
        stream = self._reading()
        stream.flush()
        os.fsync(stream.fileno())
        self.abandon()
        digest = self._digest.hexdigest()
        write_json(self._facts, {**asdict(self.version), "sha256": digest})
        return digest

    def abandon(self) -> None:
        """Keep the bytes for the next attempt."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def _reading(self) -> BinaryIO:
        assert self._stream is not None, "begin or resume first"
        return self._stream
