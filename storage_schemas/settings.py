"""Load settings and policies from TOML files and from `KEY=VALUE` options, checked against their dataclass."""

import json
import tomllib
from collections.abc import Iterable
from dataclasses import fields, is_dataclass
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar, get_args, get_type_hints

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
    return _checked(kind, read_toml(path), str(path))


def read_toml(path: Path) -> dict[str, Any]:
    """Return the content of a TOML file. Raises `ValueError`, with the file, if it is not TOML."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not TOML: {error}") from error


def parse_assignments(assignments: Iterable[str]) -> dict[str, Any]:
    """Return nested tables from `KEY=VALUE` texts, for example `schedule.stages.0.steps=2000`.

    A value is read as in a TOML file; `none` is null, and text that is not a TOML value needs no quotes. Raises
    `ValueError` for a text without `=`, or a key that is set twice.
    """
    tables: dict[str, Any] = {}
    for assignment in assignments:
        key, equals, value = (part.strip() for part in assignment.partition("="))
        if not (equals and all(key.split("."))):
            raise ValueError(f"{assignment!r} is not KEY=VALUE, such as schedule.stages.0.steps=2000")
        *path, last = key.split(".")
        table = tables
        for name in path:
            table = table.setdefault(name, {})
            if not isinstance(table, dict):
                raise ValueError(f"{assignment!r}: {name} is set twice")
        if last in table:
            raise ValueError(f"{assignment!r}: {last} is set twice")
        table[last] = _toml_value(value)
    return tables


def with_changes(config: T, changes: dict[str, Any], origin: str) -> T:
    """Return a dataclass with the values of nested tables; elements of a list are addressed by number, from 0.

    Everything else keeps its value. Raises `ValueError`, which begins with `origin`, if a key is unknown, a number is
    beyond the list, or a value has the wrong type.
    """
    kind = type(config)
    return _checked(kind, _merged(TypeAdapter(kind).dump_python(config, mode="json"), changes, origin), origin)


def _toml_value(text: str) -> Any:
    if text.lower() == "none":
        return None
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _merged(values: Any, changes: Any, origin: str) -> Any:
    """Return `values` with the values of `changes`, table by table."""
    if not isinstance(changes, dict):
        return changes
    if isinstance(values, list):
        changed = list(values)
        for number, change in changes.items():
            if not (number.isdecimal() and int(number) < len(values)):
                raise ValueError(
                    f"{origin}: there is no element {number!r} in a list of {len(values)}, numbered from 0"
                )
            changed[int(number)] = _merged(values[int(number)], change, origin)
        return changed
    before = values if isinstance(values, dict) else {}
    return before | {key: _merged(before.get(key), change, origin) for key, change in changes.items()}


def _checked(kind: type[T], values: dict[str, Any], origin: str) -> T:
    try:  # as JSON, because in Python objects strict mode accepts neither a dict for a dataclass nor a list for a tuple
        return TypeAdapter(kind).validate_json(json.dumps(values, default=str), strict=True, extra="forbid")
    except ValidationError as error:
        raise ValueError(f"{origin}: {_problem(kind, error.errors()[0])}") from error


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


def _known(kind: Any, path: Iterable[Any]) -> list[str]:
    """Return the keys of the table at `path`, which consists of names in tables and numbers in lists."""
    for step in path:
        kind = get_args(kind)[0] if isinstance(step, int) else get_type_hints(kind)[step]
        if isinstance(kind, UnionType):  # `Table | None`
            kind = next(choice for choice in get_args(kind) if is_dataclass(choice))
    return [field.name for field in fields(kind)]
