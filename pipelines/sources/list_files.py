"""Stream rows from list files: CSV, JSONL, Parquet and Arrow.

Lists are untrusted: unreadable lines become empty rows, and lines longer than `MAX_LINE` are skipped without being
loaded whole.
"""

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

import pyarrow as pa
import pyarrow.parquet as pq

from opendimo.pipelines.engine.stage import DataError

LIST_SUFFIXES = (".csv", ".jsonl", ".parquet")
MAX_LINE = 1 << 20  # characters
BATCH = 1024  # rows held as Python objects at a time

Record = dict[str, Any]  # values by lower-case column name; empty if the line cannot be read
Placed = tuple[str, Record]


def records(path: Path, wanted: frozenset[str]) -> Iterator[Placed]:
    """Yield (place, columns) for every row of a list; the place is `line N` or `row N`.

    Of Parquet and Arrow files, only the columns in `wanted` (lower case) are read.
    Raises `DataError` if the file as a whole cannot be read.
    """
    try:
        yield from _rows(path, wanted)
    except DataError:
        raise
    except Exception as error:
        text = f"{path}: not a readable {path.suffix[1:].upper()} list: {type(error).__name__}"
        raise DataError(text, reason="bad_list") from error


def _rows(path: Path, wanted: frozenset[str]) -> Iterator[Placed]:
    match path.suffix.lower():
        case ".csv":
            with path.open(newline="", encoding="utf-8-sig", errors="replace") as stream:
                yield from _csv(stream)
        case ".jsonl":
            with path.open(encoding="utf-8-sig", errors="replace") as stream:
                for number, line in enumerate(_lines(stream), start=1):
                    if line.strip():
                        yield f"line {number}", _json(line)
        case ".parquet":
            with pq.ParquetFile(path) as file:
                yield from _batches(file.iter_batches(BATCH, columns=_columns(file.schema_arrow, wanted)))
        case ".arrow":
            with pa.memory_map(str(path)) as data, _arrow(data) as reader:
                columns = _columns(reader.schema, wanted)
                yield from _batches(batch.select(columns) for batch in reader)
        case other:
            raise DataError(f"{path}: no list format {other!r}; use {', '.join(LIST_SUFFIXES)}", reason="bad_list")


def _csv(stream: TextIO) -> Iterator[Placed]:
    reader = csv.reader(_lines(stream))
    header: list[str] | None = None
    while True:
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error:  # a field is too long
            row = []
            if header is not None:
                yield f"line {reader.line_num}", {}
        if header is None:
            header = [name.lower().strip() for name in row] or None
        elif row:
            yield f"line {reader.line_num}", dict(zip(header, row, strict=False))


def _lines(stream: TextIO) -> Iterator[str]:
    """Yield lines; replace one that is too long by an empty pair of quotes, which no reader takes for a name."""
    while line := stream.readline(MAX_LINE):
        if len(line) < MAX_LINE or line.endswith("\n"):
            yield line
            continue
        while (rest := stream.readline(MAX_LINE)) and not rest.endswith("\n"):
            pass
        yield '""\n'


def _json(line: str) -> Record:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return _lower(value) if isinstance(value, dict) else {}


def _arrow(data: pa.MemoryMappedFile) -> pa.RecordBatchStreamReader:
    """Open a file saved by `datasets`: an Arrow stream, although its suffix is .arrow."""
    return pa.ipc.open_stream(data)


def _batches(batches: Iterator[pa.RecordBatch]) -> Iterator[Placed]:
    number = 0
    for batch in batches:
        for start in range(0, batch.num_rows, BATCH):
            for row in batch.slice(start, BATCH).to_pylist():
                yield f"row {number}", _lower(row)
                number += 1


def _columns(schema: pa.Schema, wanted: frozenset[str]) -> list[str]:
    return [name for name in schema.names if name.lower().strip() in wanted]


def _lower(row: dict[Any, Any]) -> Record:
    return {str(key).lower().strip(): value for key, value in row.items()}
