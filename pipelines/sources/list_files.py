"""Stream rows from list files: CSV and TSV, JSONL, plain text, Parquet and Arrow.

Lists are untrusted: unreadable lines become problems, and lines longer than `MAX_LINE` are skipped without being loaded
whole.
"""

import codecs
import csv
import gzip
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from opendimo.pipelines.engine.stage import DataError

if TYPE_CHECKING:  # imported where it is used: text lists do without it
    import pyarrow as pa

TABLES = (".csv", ".tsv", ".jsonl", ".parquet")
LIST_SUFFIXES = (*TABLES, ".txt")
"""Formats of lists. Of a folder, only `TABLES` are taken, because a text file there may be anything."""
DELIMITERS = {".csv": (",", ";", "\t", "|"), ".tsv": ("\t",)}
MAX_LINE = 1 << 20  # characters
MAX_TEXT = 1 << 32  # characters of a list: a small compressed file can hold any number
SAMPLE = 1 << 20  # bytes from which the encoding is told
BATCH = 1024  # rows held as Python objects at a time
LINE = ""
"""Key of the whole line of a plain text list."""

Record = dict[str, Any]  # values by lower-case column name; empty if the line cannot be read
csv.field_size_limit(MAX_LINE)  # lists of spans and captions are long

Placed = tuple[str, Record | str]  # the place, and the columns or the problem


def list_format(path: Path) -> str:
    """Return the lower-case suffix that tells the format of a file; `.gz` of a text format is left out."""
    suffixes = [suffix.lower() for suffix in path.suffixes[-2:]]
    if len(suffixes) == 2 and suffixes[1] == ".gz" and suffixes[0] != ".parquet":
        return suffixes[0]
    return suffixes[-1] if suffixes else ""


def records(path: Path, wanted: frozenset[str]) -> Iterator[Placed]:
    """Yield (place, columns) for every row of a list; the place is `line N` or `row N`. Of a row that cannot be read,
    the second is the problem.

    `wanted` (lower case): the columns to read of Parquet and Arrow files; in CSV, they tell the delimiter.
    Raises `DataError` if the file as a whole cannot be read.
    """
    try:
        yield from _rows(path, wanted)
    except DataError:
        raise
    except Exception as error:
        text = f"{path}: not a readable {list_format(path)[1:].upper()} list: {type(error).__name__}"
        raise DataError(text, reason="bad_list") from error


def _rows(path: Path, wanted: frozenset[str]) -> Iterator[Placed]:
    match list_format(path):
        case ".csv" | ".tsv" as suffix:
            with _text(path) as stream:
                yield from _delimited(_lines(stream), wanted, DELIMITERS[suffix])
        case ".jsonl":
            with _text(path) as stream:
                for number, line in enumerate(_lines(stream), start=1):
                    if line.strip():
                        yield f"line {number}", _json(line)
        case ".txt":
            with _text(path) as stream:
                for number, line in enumerate(_lines(stream), start=1):
                    if line.strip() and not line.lstrip().startswith("#"):
                        yield f"line {number}", {LINE: line.strip()}
        case ".parquet":
            import pyarrow.parquet as pq

            with pq.ParquetFile(path) as file:
                yield from _batches(file.iter_batches(BATCH, columns=_columns(file.schema_arrow, wanted)))
        case ".arrow":
            import pyarrow as pa

            with pa.memory_map(str(path)) as data, _arrow(data) as reader:
                columns = _columns(reader.schema, wanted)
                yield from _batches(batch.select(columns) for batch in reader)
        case other:
            raise DataError(f"{path}: no list format {other!r}; use {', '.join(LIST_SUFFIXES)}", reason="bad_list")


def _text(path: Path) -> TextIO:
    """Open a text file, decompressed, in UTF-8, UTF-16 (with a byte order mark) or else Windows' Latin-1."""
    binary: Any = (gzip.open if path.suffix.lower() == ".gz" else open)(path, "rb")  # closed with the text stream
    sample = binary.read(SAMPLE)
    binary.seek(0)
    return io.TextIOWrapper(binary, encoding=_encoding(sample), errors="replace", newline="")


def _encoding(sample: bytes) -> str:
    if sample.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    try:
        codecs.getincrementaldecoder("utf-8")().decode(sample)  # the sample may end within a character
    except UnicodeDecodeError:
        return "cp1252"
    return "utf-8-sig"


def _delimited(lines: Iterator[str], wanted: frozenset[str], delimiters: tuple[str, ...]) -> Iterator[Placed]:
    """Yield the rows after the header. The delimiter is the first one with which the header names a wanted column."""
    header, before = "", 0
    for header in lines:
        before += 1
        if header.strip():
            break
    delimiter = next((mark for mark in delimiters if wanted & set(_names(header, mark))), delimiters[0])
    names, reader = _names(header, delimiter), csv.reader(lines, delimiter=delimiter)
    while True:
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield f"line {before + reader.line_num}", f"not a line of CSV ({error})"
            continue
        place = f"line {before + reader.line_num}"
        while len(row) > len(names) and not row[-1].strip():
            row.pop()
        if len(row) > len(names) == 1:
            yield place, {names[0]: delimiter.join(row)}  # an address with unquoted delimiters
        elif len(row) > len(names):
            yield place, f"{len(row)} values for {len(names)} columns: put values that contain {delimiter!r} in quotes"
        elif row:
            yield place, dict(zip(names, row, strict=False))


def _names(header: str, delimiter: str) -> list[str]:
    """Return the lower-case column names of a header line."""
    try:
        return [name.lower().strip() for name in next(csv.reader([header], delimiter=delimiter), [])]
    except csv.Error:
        return []


def _lines(stream: TextIO) -> Iterator[str]:
    """Yield lines; replace one that is too long by an empty pair of quotes, which no reader takes for a name.

    Raises `DataError` after `MAX_TEXT` characters.
    """
    read = 0
    while line := stream.readline(MAX_LINE):
        read += len(line)
        if read > MAX_TEXT:
            raise DataError(f"a list of more than {MAX_TEXT} characters: split it", reason="bad_list")
        if len(line) < MAX_LINE or line.endswith("\n"):
            yield line
            continue
        while (rest := stream.readline(MAX_LINE)) and not rest.endswith("\n"):
            read += len(rest)
        yield '""\n'


def _json(line: str) -> Record:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return _lower(value) if isinstance(value, dict) else {}


def _arrow(data: "pa.MemoryMappedFile") -> "pa.RecordBatchStreamReader":
    """Open a file saved by `datasets`: an Arrow stream, although its suffix is .arrow."""
    import pyarrow as pa

    return pa.ipc.open_stream(data)


def _batches(batches: "Iterator[pa.RecordBatch]") -> Iterator[Placed]:
    number = 0
    for batch in batches:
        for start in range(0, batch.num_rows, BATCH):
            for row in batch.slice(start, BATCH).to_pylist():
                yield f"row {number}", _lower(row)
                number += 1


def _columns(schema: "pa.Schema", wanted: frozenset[str]) -> list[str]:
    return [name for name in schema.names if name.lower().strip() in wanted]


def _lower(row: dict[Any, Any]) -> Record:
    return {str(key).lower().strip(): value for key, value in row.items()}
