"""Compute stable, content-derived ids: the same input has the same id on every machine."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

ID_LENGTH = 32  # hex digits: 128 bits, no collision below about 10^18 rows


def stable_id(*parts: Any) -> str:
    """Return a hash of `parts` (JSON-able values and dataclasses), 32 hex digits."""
    return hashlib.sha256(_text(parts).encode()).hexdigest()[:ID_LENGTH]


def work_key(content: Any, stage: str, version: str, config: Any, weights: str = "") -> str:
    """Return the id of a unit of work: a hash of its input and of everything that determines its output.

    `content` identifies the input by its content (a hash, or a tuple of hashes). `version` is the stage's code
    version, `config` its frozen dataclass, `weights` a hash of the model weights it uses, if any.
    """
    return stable_id("work", content, stage, version, config, weights)


def work_keys(contents: Iterable[str], stage: str, version: str, config: Any, weights: str = "") -> list[str]:
    """Return the `work_key` of many units of work of one stage; the shared part is serialised only once.

    `contents` are compact JSON strings, ASCII, with sorted keys (`pipelines.columns` builds them from Arrow columns).
    """
    tail = f",{_text([stage, version, config, weights])[1:]}"
    sha256 = hashlib.sha256
    return [sha256(f'["work",{content}{tail}'.encode()).hexdigest()[:ID_LENGTH] for content in contents]


def as_stored(value: Any) -> Any:
    """Return `value` (JSON-able values and dataclasses) as it is read back from a JSON file: tuples become lists."""
    return json.loads(_text(value))


def sha256_file(path: str | Path, chunk: int = 1 << 20) -> str:
    """Return the hex SHA-256 of a file, read in chunks."""
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        while block := stream.read(chunk):
            digest.update(block)
    return digest.hexdigest()


def sha256_bytes(data: bytes) -> str:
    """Return the hex SHA-256 of `data`."""
    return hashlib.sha256(data).hexdigest()


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), default=_jsonable, allow_nan=True)


def _jsonable(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    raise TypeError(f"cannot compute an id from a {type(value).__name__}: {value!r}")
