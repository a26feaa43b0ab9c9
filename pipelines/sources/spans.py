"""Read the spans of long videos that a list names: (start, end) in two columns, or pairs of times in one.

Times are seconds, or text: `83.5`, `1:23.5`, `0:01:23.500`, `1m23.5s`. Pairs are a list, or its text in Python's or
JSON's syntax as Panda-70M and Koala-36M write it, or text such as `1.5-2.5`.
"""

import ast
import json
import math
import re
from dataclasses import dataclass
from datetime import time, timedelta
from decimal import Decimal
from typing import Any

COLUMNS = {
    "start": (
        "start", "start_time", "start time", "start_sec", "start_seconds", "start_timestamp", "time_start",
        "clip_start",
    ),
    "end": ("end", "end_time", "end time", "end_sec", "end_seconds", "end_timestamp", "time_end", "clip_end"),
    "timestamp": ("timestamp", "timestamps", "clips", "segment", "segments", "span", "spans"),
    "caption": ("caption", "captions", "sentence", "sentences", "text"),
}  # fmt: skip
"""Fields of a span, with the accepted names of each column."""
CLOCK = re.compile(r"(?:(\d+):)?(\d+):(\d+(?:[.,]\d+)?)")
UNITS = re.compile(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d+)?)s?)?")
PAIR = re.compile(r"\s*(?:-->|-|–|;|\bto\b)\s*|,?\s+")
LONGEST = 1e6  # seconds; more is another unit, or a date
HELP = "give seconds or H:MM:SS.mmm, or leave the column out with --column {field}=none"


@dataclass(frozen=True, order=True)
class Span:
    """A span [start, end) of a video, in seconds. `extra`: columns of its row, as JSON."""

    start: float
    end: float
    extra: str | None = None

    def __str__(self) -> str:
        return f"{self.start:g}-{self.end:g} s"


@dataclass(frozen=True)
class Read:
    """What the columns of a row say: its spans, empty if it names none, and what is wrong with others."""

    spans: list[Span]
    problems: list[str]


def read_spans(given: dict[str, Any], kept: dict[str, Any]) -> Read:
    """Read the spans of a row. `given`: values of the fields in `COLUMNS`. `kept`: further columns to store.

    A value of these with an entry for each span, as in Panda-70M, is distributed to them.
    """
    try:
        pairs, field = _pairs(given)
    except ValueError as error:
        return Read([], [str(error)])
    captions = listed(given.get("caption"))
    if len(pairs) > 1 and captions is not None and len(captions) != len(pairs):
        return Read([], [f"{len(pairs)} spans, but {len(captions)} captions: give a caption for each span"])
    caption = {} if given.get("caption") is None else {"caption": given["caption"]}
    values = {name: _per_span(value, len(pairs)) for name, value in (kept | caption).items()}
    spans, problems = [], []
    for index, pair in enumerate(pairs):
        try:
            start, end = _times(pair)
        except ValueError as error:
            problems.append(f"{error}: {HELP.format(field=field)}")
        else:
            spans.append(Span(start, end, _extra(values, index)))
    return Read(spans, problems)


def seconds(value: Any) -> float:
    """Return a time in seconds. Raises `ValueError` if it is none."""
    match value:
        case bool() | None:
            number = math.nan
        case int() | float() | Decimal():
            number = float(min(value, 2 * LONGEST))
        case timedelta():
            number = value.total_seconds()
        case time():
            number = value.hour * 3600 + value.minute * 60 + value.second + value.microsecond / 1e6
        case str():
            number = _seconds_of_text(value.strip())
        case _:
            number = math.nan
    if not 0 <= number <= LONGEST:
        raise ValueError(f"{_short(value)} is no time in a video")
    return number


def listed(value: Any) -> list[Any] | None:
    """Return a value that is a list, or the text of one in Python's or JSON's syntax; None for others."""
    if isinstance(value, str) and value.strip().startswith(("[", "(")):
        try:
            value = ast.literal_eval(value.strip())  # builds literals only
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            try:
                value = json.loads(value)  # null, true
            except (ValueError, RecursionError):
                return None
    return list(value) if isinstance(value, (list, tuple)) else None


def _pairs(given: dict[str, Any]) -> tuple[list[Any], str]:
    """Return the pairs of times of a row, unread, and the field that they come from.

    Raises `ValueError` if a field lacks its counterpart, or several fields state spans.
    """
    match [name for name in ("start", "end", "timestamp") if _is_filled(given.get(name))]:
        case []:
            return [], ""
        case ["start", "end"]:
            starts, ends = listed(given["start"]), listed(given["end"])
            if starts is None or ends is None:
                return [(given["start"], given["end"])], "start"
            if len(starts) != len(ends):
                raise ValueError(f"{len(starts)} starts, but {len(ends)} ends: give both of each span")
            return list(zip(starts, ends, strict=True)), "start"
        case ["timestamp"]:
            value = given["timestamp"]
            several = listed(value)
            is_one = several is None or (len(several) == 2 and not any(_parts(item) for item in several))
            return [value] if is_one else several or [], "timestamp"
        case ["start" | "end" as only]:
            other = "end" if only == "start" else "start"
            raise ValueError(f"a {only}, but no {other}: give both, or leave the column out with --column {only}=none")
        case _:
            raise ValueError("times in timestamp and in start or end: leave one out with --column timestamp=none")


def _times(pair: Any) -> tuple[float, float]:
    """Return the times of a pair, in seconds. Raises `ValueError` if it is none."""
    parts = _parts(pair)
    if parts is None:
        raise ValueError(f"{_short(pair)} is no pair of times")
    start, end = map(seconds, parts)
    if end <= start:
        raise ValueError(f"the span {start:g}-{end:g} s ends before it begins")
    return start, end


def _parts(pair: Any) -> tuple[Any, Any] | None:
    """Return the two parts of a pair: a list, its text, text with a separator, or a start and an end by name."""
    parts: list[Any] | None
    if isinstance(pair, dict):
        parts = [pair[name] for field in ("start", "end") for name in COLUMNS[field] if name in pair]
    else:
        parts = listed(pair)
        if parts is None and isinstance(pair, str):
            parts = PAIR.split(pair.strip())
            parts = parts if len(parts) == 2 else pair.split(",")
    return (parts[0], parts[1]) if parts is not None and len(parts) == 2 else None


def _seconds_of_text(text: str) -> float:
    if clock := CLOCK.fullmatch(text):
        hours, minutes, rest = clock.groups()
        whole = float(rest.replace(",", "."))
        if whole >= 60 or (hours is not None and float(minutes) >= 60):
            return math.nan
        return float(hours or 0) * 3600 + float(minutes) * 60 + whole
    if text and (units := UNITS.fullmatch(text)):
        hours, minutes, rest = units.groups()
        return float(hours or 0) * 3600 + float(minutes or 0) * 60 + float(rest or 0)
    return math.nan


def _is_filled(value: Any) -> bool:
    return value is not None and value != [] and not (isinstance(value, str) and value.strip() in ("", "[]"))


def _per_span(value: Any, count: int) -> list[Any]:
    values = listed(value)
    return values if values is not None and len(values) == count else [value] * count


def _extra(values: dict[str, list[Any]], index: int) -> str | None:
    row = {name: of_spans[index] for name, of_spans in values.items()}
    return json.dumps(row, sort_keys=True, default=str, ensure_ascii=False) if row else None


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
