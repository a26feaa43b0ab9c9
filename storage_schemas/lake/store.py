"""Read and write the small files of a lake atomically, in a local folder or on an object store."""

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
    """Access files by name. Names are relative to the lake and separate folders by /."""

    def read(self, name: str) -> bytes | None:
        """Return the content, or None if there is no such file."""

    def write(self, name: str, data: bytes) -> None:
        """Write or replace a file durably."""

    def create(self, name: str, data: bytes) -> bool:
        """Write a file unless it exists; return whether it was written. Of concurrent calls exactly one succeeds."""

    def keeps_conditions(self) -> bool:
        """Return whether the store supports conditional writes, which the commit protocol needs."""

    def delete(self, name: str) -> None:
        """Delete a file if it exists."""

    def sizes(self, folder: str) -> dict[str, int]:
        """Return the size in bytes of every file below a folder, sorted by name; empty if there is no such folder."""

    def sha256(self, name: str) -> str:
        """Return the hex SHA-256 of a file, read in chunks. Raises `FileNotFoundError` if it does not exist."""


def open_store(uri: str) -> Store:
    """Return the store of a lake. `uri` is a local path or a URL such as s3://bucket/lake (credentials: environment).

    Raises `ValueError` if the scheme of a URL is not one of a supported object store.
    """
    return ObjectStore(uri) if "://" in uri else LocalStore(Path(uri))


def read_json(store: Store, name: str) -> Any:
    """Return the value of a JSON file, or None if there is no such file."""
    return None if (data := store.read(name)) is None else json.loads(data)


def write_json(store: Store, name: str, value: Any) -> None:
    """Write `value` to a file as JSON."""
    store.write(name, json.dumps(value, sort_keys=True, indent=1).encode())


class LocalStore:
    """A store in a local folder."""

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
        temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
        write_bytes(temporary, data)
        try:
            os.link(temporary, path)  # unlike a rename, it fails if the name exists
        except FileExistsError:
            return False
        finally:
            temporary.unlink()
        sync_folder(path.parent)
        return True

    def keeps_conditions(self) -> bool:
        return True

    def delete(self, name: str) -> None:
        (self.root / name).unlink(missing_ok=True)

    def sizes(self, folder: str) -> dict[str, int]:
        sizes = {}
        for parent, _, names in os.walk(self.root / folder):
            for name in names:
                path = Path(parent, name)
                try:
                    sizes[path.relative_to(self.root).as_posix()] = path.stat().st_size
                except FileNotFoundError:  # a temporary file of another process
                    continue
        return dict(sorted(sizes.items()))

    def sha256(self, name: str) -> str:
        return sha256_file(self.root / name)


class ObjectStore:
    """A store at a prefix of an object store with conditional writes (S3, GCS, Azure, and compatible services)."""

    def __init__(self, uri: str) -> None:
        if (scheme := uri.partition("://")[0]) not in SCHEMES:
            raise ValueError(f"{uri}: a lake cannot be stored at {scheme}://, use a folder or {', '.join(SCHEMES)}")
        self._store = from_url(uri)

    def read(self, name: str) -> bytes | None:
        return None if (tagged := self.read_tagged(name)) is None else tagged[0]

    def read_tagged(self, name: str) -> Tagged | None:
        """Return the content and its entity tag, or None if there is no such object."""
        try:
            response = obstore.get(self._store, name)
        except FileNotFoundError:
            return None
        return bytes(response.bytes()), str(response.meta["e_tag"])

    def write(self, name: str, data: bytes) -> None:
        obstore.put(self._store, name, data)

    def create(self, name: str, data: bytes) -> bool:
        return self.create_tagged(name, data) is not None

    def create_tagged(self, name: str, data: bytes) -> str | None:
        """Like `create`, but return the entity tag of the new object, or None if the object exists."""
        try:
            return str(obstore.put(self._store, name, data, mode="create", use_multipart=False)["e_tag"])
        except AlreadyExistsError:
            return None

    def swap(self, name: str, data: bytes, tag: str) -> str | None:
        """Replace the object if it still has entity tag `tag`; return the new tag, or None if the object changed."""
        try:
            return str(obstore.put(self._store, name, data, mode={"e_tag": tag}, use_multipart=False)["e_tag"])
        except (PreconditionError, FileNotFoundError):
            return None

    def keeps_conditions(self) -> bool:
        self.create(PROBE, b"")
        return not self.create(PROBE, b"") and self.swap(PROBE, b"", '"another"') is None

    def delete(self, name: str) -> None:
        with suppress(FileNotFoundError):  # raised for a missing object by other stores than S3
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
