"""The template engine of all pages, and how they write numbers."""

from datetime import UTC, datetime
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from opendimo.pipelines.report.plots import significant


def environment() -> Environment:
    """Everything that comes from a lake is untrusted: it is escaped, and a missing value is an error."""
    made = Environment(
        loader=PackageLoader("opendimo.pipelines.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"when": _when, "duration": _duration, "count": _count, "words": _words, "number": _number}
    return made


def _when(ns: int) -> str:
    return datetime.fromtimestamp(ns / 1e9, UTC).strftime("%Y-%m-%d %H:%M UTC")


def _duration(seconds: float) -> str:
    for unit, size in (("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} s"


def _count(number: int, one: str = "") -> str:
    """`1 clip`, `2,000 clips`."""
    return f"{number:,} {one}{'' if number == 1 else 's'}" if one else f"{number:,}"


def _words(name: str) -> str:
    return name.replace("_", " ")


def _number(value: Any, digits: int = 3) -> str:
    """A number with so many significant digits; a dash for what was not measured."""
    return significant(value, digits) if isinstance(value, (int, float)) else "–"
