"""Load settings of stages and policies from TOML files, checked against their dataclass."""

import tomllib
from dataclasses import fields, is_dataclass
from pathlib import Path
from types import NoneType
from typing import Any, TypeVar, get_args, get_type_hints

T = TypeVar("T")
WORDS = {bool: "true or false", int: "an integer", float: "a number", str: "a string"}


def load_settings(path: Path, kind: type[T]) -> T:
    """Return the dataclass `kind` filled from a TOML file; missing keys keep their defaults, nested dataclasses are
    tables.

    Raises `ValueError` with the file and the key if a key is unknown or a value has the wrong type.
    """
    try:
        given = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not TOML: {error}") from error
    try:
        return _filled(given, kind, "")
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _filled(given: dict[str, Any], kind: type[T], prefix: str) -> T:
    assert is_dataclass(kind)
    known = [field.name for field in fields(kind)]
    if unknown := sorted(set(given) - set(known)):
        raise ValueError(f"unknown key {prefix + unknown[0]!r}; known keys: {', '.join(known)}")
    types = get_type_hints(kind)
    return kind(**{name: _value(value, types[name], prefix + name) for name, value in given.items()})


def _value(value: Any, hint: Any, name: str) -> Any:
    options = [option for option in get_args(hint) or (hint,) if option is not NoneType]
    for option in options:
        if is_dataclass(option) and isinstance(option, type):
            if isinstance(value, dict):
                return _filled(value, option, f"{name}.")
        elif option is float and type(value) in (int, float):
            return float(value)
        elif type(value) is option:
            return value
    words = " or ".join(WORDS.get(option, "a table") for option in options)
    raise ValueError(f"{name} must be {words}, got {value!r}")
