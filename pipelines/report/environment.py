"""The template environment of all pages, and its filters for numbers and times."""

from datetime import UTC, datetime
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from opendimo.pipelines.report.plots import significant


def environment() -> Environment:
    """Return the Jinja environment. Data from a lake is untrusted, so it is escaped; missing values raise an error."""
    jinja = Environment(
        loader=PackageLoader("opendimo.pipelines.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    jinja.filters |= {"when": _when, "duration": _duration, "count": _count, "words": _words, "number": _number}
    return jinja


def template_bytes(name: str) -> bytes:
    """Return a file of the folder `templates` as it is."""
    return (files("opendimo.pipelines.report") / "templates" / name).read_bytes()


def _when(ns: int) -> str:
    return datetime.fromtimestamp(ns / 1e9, UTC).strftime("%Y-%m-%d %H:%M UTC")


def _duration(seconds: float) -> str:
    for unit, size in (("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} s"


def _count(number: int, one: str = "") -> str:
    """Format a count with its noun: `1 clip`, `2,000 clips`."""
    return f"{number:,} {one}{'' if number == 1 else 's'}" if one else f"{number:,}"


def _words(name: str) -> str:
    return name.replace("_", " ")


def _number(value: Any, digits: int = 3) -> str:
    """Format a number with this many significant digits; a dash if it was not measured."""
    return significant(value, digits) if isinstance(value, (int, float)) else "–"
