"""Read untrusted text files with a size limit and readable error messages."""

import csv
import io
import json
from pathlib import Path
from typing import Any

from opendimo.pipelines.engine.stage import DataError

MAX_BYTES = 256 << 20


def read_text(path: Path) -> str:
    """Read a text file. Raises `DataError` if it is missing, not a regular file, too large, or not UTF-8."""
    if not path.is_file():
        raise DataError(f"no file {path}: copy it there")
    if (size := path.stat().st_size) > MAX_BYTES:
        raise DataError(f"{path}: {size} bytes are more than {MAX_BYTES}: split the job")
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not a text file: {error}") from error


def read_table(path: Path) -> list[dict[str, Any]]:
    """Read the rows of a CSV file with a header. Raises `DataError` if it is not one."""
    try:
        return list(csv.DictReader(io.StringIO(read_text(path), newline="")))
    except csv.Error as error:
        raise DataError(f"{path}: not a CSV text file: {error}") from error


def read_object(path: Path) -> dict[str, Any]:
    """Read a JSON object. Raises `DataError` if it is not one, or has numbers that JSON does not allow (NaN)."""
    try:
        value = json.loads(read_text(path), parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise error if isinstance(error, DataError) else DataError(f"{path}: not readable JSON: {error}") from error
    if not isinstance(value, dict):
        raise DataError(f"{path}: not a JSON object")
    return value


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is not a number")
