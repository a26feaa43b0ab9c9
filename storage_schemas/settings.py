"""Load settings and policies from TOML files, checked against their dataclass."""

import json
import tomllib
from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from pydantic import TypeAdapter, ValidationError

T = TypeVar("T")
WORDS = {
    "bool_type": "true or false",
    "int_type": "an integer",
    "float_type": "a number",
    "string_type": "a string",
    "tuple_type": "a list",
    "dict_type": "a table",
    "dataclass_type": "a table",
    "greater_than_equal": "{ge} or more",
}
"""What a value must be, by the type of pydantic's error."""


def load_settings(path: Path, kind: type[T]) -> T:
    """Return the dataclass `kind` filled from a TOML file; missing keys keep their defaults, nested dataclasses are
    tables.

    Raises `ValueError` with the file and the key if a key is unknown or a value has the wrong type.
    """
    try:
        given = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not TOML: {error}") from error
    try:  # as JSON, because in Python objects strict mode accepts neither a dict for a dataclass nor a list for a tuple
        return TypeAdapter(kind).validate_json(json.dumps(given, default=str), strict=True, extra="forbid")
    except ValidationError as error:
        raise ValueError(f"{path}: {_problem(kind, error.errors()[0])}") from error


def _problem(kind: type, error: Any) -> str:
    key = ".".join(map(str, error["loc"]))
    match error["type"]:
        case "unexpected_keyword_argument":
            return f"unknown key {key!r}; known keys: {', '.join(_known(kind, error['loc'][:-1]))}"
        case "value_error":  # of the dataclass itself, which names the key
            return str(error["ctx"]["error"])
        case name if name in WORDS:
            return f"{key} must be {WORDS[name].format_map(error.get('ctx', {}))}, got {error['input']!r}"
    return f"{key}: {error['msg']}, got {error['input']!r}"


def _known(kind: type, tables: Iterable[Any]) -> list[str]:
    """Return the keys of the table at `tables`, the names of the tables that lead to it."""
    for name in tables:
        kind = get_type_hints(kind)[name]
    return [field.name for field in fields(kind)]
