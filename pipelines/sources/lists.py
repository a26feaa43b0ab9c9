"""Lists of videos: CSV, JSONL or Parquet with a column of paths or URLs."""

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.stage import DataError

LIST_SUFFIXES = (".csv", ".jsonl", ".parquet")
URI_COLUMNS = ("uri", "url", "path")
RIGHTS = ("licence", "attribution", "subject")


@dataclass(frozen=True)
class Entry:
    """An item of a list, `place` says where it stands; `problem` what is wrong with it."""

    place: str
    uri: str
    licence: str | None = None
    attribution: str | None = None
    subject: str | None = None
    problem: str | None = None


def read_list(path: Path) -> list[Entry]:
    """The entries of a list, in its order. A bad or repeated line becomes an entry with a problem.

    Raises `DataError` where the file as a whole cannot be read or has no column `uri`, `url` or `path`.
    """
    try:
        records = list(_records(path))
    except DataError:
        raise
    except Exception as error:
        raise DataError(f"{path}: not a readable {path.suffix[1:].upper()} list: {error}") from error
    if not records:
        raise DataError(f"{path}: the list is empty")
    if not any(column in record for _, record in records for column in URI_COLUMNS):
        raise DataError(f"{path}: no column named {', '.join(URI_COLUMNS)}")
    entries, first_place = [], dict[str, str]()
    for place, record in records:
        entry = _entry(path, place, record)
        first = first_place.setdefault(entry.uri, place)
        if entry.uri and first != place:
            entry = Entry(place, entry.uri, problem=f"{path} {place}: the same as {first}")
        entries.append(entry)
    return entries


def _records(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """(place, columns in lower case) of every line; a JSON line that cannot be read has no columns."""
    match path.suffix.lower():
        case ".csv":
            with path.open(newline="", encoding="utf-8-sig") as stream:
                reader = csv.DictReader(stream)
                for row in reader:
                    yield f"line {reader.line_num}", _lower(row)
        case ".jsonl":
            with path.open(encoding="utf-8-sig") as stream:
                for number, line in enumerate(stream, start=1):
                    if line.strip():
                        yield f"line {number}", _json(line)
        case ".parquet":
            import pyarrow.parquet as pq

            names = [name for name in pq.read_schema(path).names if name.lower().strip() in (*URI_COLUMNS, *RIGHTS)]
            for number, row in enumerate(pq.read_table(path, columns=names).to_pylist()):
                yield f"row {number}", _lower(row)
        case other:
            raise DataError(f"{path}: no list format {other!r}; use {', '.join(LIST_SUFFIXES)}")


def _entry(path: Path, place: str, record: dict[str, Any]) -> Entry:
    uri = next((record[column] for column in URI_COLUMNS if record.get(column)), None)
    if not isinstance(uri, str) or not uri.strip():
        return Entry(place, "", problem=f"{path} {place}: no path or URL in it: fill it in, or remove the line")
    given = {name: str(record[name]).strip() or None for name in RIGHTS if record.get(name) is not None}
    return Entry(place, uri.strip(), **given)


def _json(line: str) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except ValueError:
        return {}
    return _lower(value) if isinstance(value, dict) else {}


def _lower(row: dict[Any, Any]) -> dict[str, Any]:
    return {str(key).lower().strip(): value for key, value in row.items()}
