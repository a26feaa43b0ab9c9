"""Small files beside the tables of a lake: each is whole or absent, on a local folder and on an object store alike."""

import hashlib
import json
import os
import uuid
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

import obstore
from obstore.exceptions import AlreadyExistsError, PreconditionError
from obstore.store import from_url

from opendimo.storage_schemas.ids import sha256_file
from opendimo.storage_schemas.lake.files import sync_folder, write_bytes

PROBE = "locks/probe"
SCHEMES = ("s3", "gs", "az")
Tagged = tuple[bytes, str]  # content and entity tag


class Store(Protocol):
    """Files by name, relative to the lake, with / between folders."""

    def read(self, name: str) -> bytes | None:
        """The content, or None where there is no such file."""

    def write(self, name: str, data: bytes) -> None:
        """Write or replace, durably."""

    def create(self, name: str, data: bytes) -> bool:
        """Write unless it is there; whether it was written. Of several at once exactly one succeeds."""

    def keeps_conditions(self) -> bool:
        """Whether writes that depend on what is there are safe: without them nothing here is."""

    def delete(self, name: str) -> None:
        """Delete it, if it is there."""

    def sizes(self, folder: str) -> dict[str, int]:
        """Size in bytes of every file below a folder, by name, in order; empty where there is no such folder."""

    def sha256(self, name: str) -> str:
        """Hex SHA-256 of a file, read in pieces. Raises `FileNotFoundError`."""


def open_store(uri: str) -> Store:
    """The store of a lake: `uri` is a local path or a URL such as s3://bucket/lake (credentials: environment).

    Raises `ValueError` for a URL that is none of an object store.
    """
    return ObjectStore(uri) if "://" in uri else LocalStore(Path(uri))


def read_json(store: Store, name: str) -> Any:
    """The value of a JSON file, or None where there is no file."""
    return None if (data := store.read(name)) is None else json.loads(data)


def write_json(store: Store, name: str, value: Any) -> None:
    """Write `value` as JSON."""
    store.write(name, json.dumps(value, sort_keys=True, indent=1).encode())


class LocalStore:
    """A folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def read(self, name: str) -> bytes | None:
        try:
            return (self.root / name).read_bytes()
        except FileNotFoundError:
            return None

    def write(self, name: str, data: bytes) -> None:
        write_bytes(self.root / name, data)

    def create(self, name: str, data: bytes) -> bool:
        path = self.root / name
        whole = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
        write_bytes(whole, data)
        try:
            os.link(whole, path)  # unlike a rename it fails where the name is taken
        except FileExistsError:
            return False
        finally:
            whole.unlink()
        sync_folder(path.parent)
        return True

    def keeps_conditions(self) -> bool:
        return True

    def delete(self, name: str) -> None:
        (self.root / name).unlink(missing_ok=True)

    def sizes(self, folder: str) -> dict[str, int]:
        found = {}
        for parent, _, names in os.walk(self.root / folder):
            for name in names:
                path = Path(parent, name)
                try:
                    found[path.relative_to(self.root).as_posix()] = path.stat().st_size
                except FileNotFoundError:  # somebody's temporary file
                    continue
        return dict(sorted(found.items()))

    def sha256(self, name: str) -> str:
        return sha256_file(self.root / name)


class ObjectStore:
    """A prefix of an object store that keeps conditional writes (S3, GCS, Azure, and look-alikes that do)."""

    def __init__(self, uri: str) -> None:
        if (scheme := uri.partition("://")[0]) not in SCHEMES:
            raise ValueError(f"{uri}: no lake can be at {scheme}://, use a folder or {', '.join(SCHEMES)}")
        self._store = from_url(uri)

    def read(self, name: str) -> bytes | None:
        return None if (found := self.read_tagged(name)) is None else found[0]

    def read_tagged(self, name: str) -> Tagged | None:
        """The content and its entity tag, or None where there is no such object."""
        try:
            found = obstore.get(self._store, name)
        except FileNotFoundError:
            return None
        return bytes(found.bytes()), str(found.meta["e_tag"])

    def write(self, name: str, data: bytes) -> None:
        obstore.put(self._store, name, data)

    def create(self, name: str, data: bytes) -> bool:
        return self.create_tagged(name, data) is not None

    def create_tagged(self, name: str, data: bytes) -> str | None:
        """Like `create`; the entity tag of what was written, or None."""
        try:
            return str(obstore.put(self._store, name, data, mode="create", use_multipart=False)["e_tag"])
        except AlreadyExistsError:
            return None

    def swap(self, name: str, data: bytes, tag: str) -> str | None:
        """Replace the object if it still has entity tag `tag`; the new tag, or None where it changed."""
        try:
            return str(obstore.put(self._store, name, data, mode={"e_tag": tag}, use_multipart=False)["e_tag"])
        except (PreconditionError, FileNotFoundError):
            return None

    def keeps_conditions(self) -> bool:
        self.create(PROBE, b"")
        return not self.create(PROBE, b"") and self.swap(PROBE, b"", '"another"') is None

    def delete(self, name: str) -> None:
        with suppress(FileNotFoundError):  # S3 says nothing, others do
            obstore.delete(self._store, name)

    def sizes(self, folder: str) -> dict[str, int]:
        return dict(sorted(self._sizes(folder)))

    def _sizes(self, folder: str) -> Iterator[tuple[str, int]]:
        for page in obstore.list(self._store, folder):
            for item in page:
                yield item["path"], item["size"]

    def sha256(self, name: str) -> str:
        digest = hashlib.sha256()
        for piece in obstore.get(self._store, name):
            digest.update(piece)
        return digest.hexdigest()
