"""Stable, content-derived ids: the same input always gets the same id, on every machine."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

ID_LENGTH = 32  # hex digits: 128 bits, no collision below about 10^18 rows


def stable_id(*parts: Any) -> str:
    """Hash of `parts` (JSON-able values and dataclasses), 32 hex digits."""
    return hashlib.sha256(_text(parts).encode()).hexdigest()[:ID_LENGTH]


def work_key(content: Any, stage: str, version: str, config: Any, weights: str = "") -> str:
    """Identity of a piece of work: what goes in, and everything that decides what comes out.

    `content` identifies the input by its content (a hash, or a tuple of them), `version` is the stage's
    code version, `config` its frozen dataclass, `weights` a hash of the model weights it uses, if any.
    """
    return stable_id("work", content, stage, version, config, weights)


def work_keys(contents: Iterable[str], stage: str, version: str, config: Any, weights: str = "") -> list[str]:
    """The `work_key` of many pieces of work of one stage: what all share is turned into text once.

    `contents` are compact JSON texts, ASCII, with sorted keys (`pipelines.columns` makes them of Arrow columns).
    """
    tail = f",{_text([stage, version, config, weights])[1:]}"
    sha256 = hashlib.sha256
    return [sha256(f'["work",{content}{tail}'.encode()).hexdigest()[:ID_LENGTH] for content in contents]


def sha256_file(path: str | Path, chunk: int = 1 << 20) -> str:
    """Hex SHA-256 of a file's bytes, read in chunks."""
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        while block := stream.read(chunk):
            digest.update(block)
    return digest.hexdigest()


def sha256_bytes(data: bytes) -> str:
    """Hex SHA-256 of `data`."""
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
    raise TypeError(f"an id cannot be made of {type(value).__name__}: {value!r}")
