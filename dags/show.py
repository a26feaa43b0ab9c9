"""Output of commands: tables for people, JSON for programs."""

import json
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    from opendimo.pipelines.engine.rejects import RejectGroup
    from opendimo.pipelines.engine.work_status import Account
    from opendimo.pipelines.progress import Forecast
    from opendimo.pipelines.progress.status import Pending

UNITS = {
    "sources": "source items",
    "clips": "source items",
    "duplicates": "clips",
    "hands": "clips",
    "rigs": "multi-camera captures",
    "verdict": "clips",
    "poses": "clips or multi-view takes",
    "captions": "clips",
    "latents": "clips",
    "pairs": "pair sets",
}
REASONS = 4  # maximum number of reasons in one cell
FUNNEL_COLUMNS = ("stage", "unit", "in", "done", "filtered", "rejected", "waiting", "due", "reasons")
PLAN_COLUMNS = (
    "stage",
    "in",
    "done",
    "failed",
    "waiting",
    "left",
    "stale",
    "new",
    "due",
    "later",
    "time",
    "disk",
    "basis",
)
UNKNOWN = "unknown"


def as_json(value: Any) -> None:
    """Print a value as one JSON document on standard output."""
    json.dump(value, sys.stdout, indent=1, sort_keys=True, default=str)
    print()


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Print a table on standard output, with numeric columns right-aligned."""
    rich_table = Table(title=title, title_justify="left", title_style="bold")
    for k, name in enumerate(columns):
        numeric = bool(rows) and all(isinstance(row[k], (int, float, type(None))) for row in rows)
        rich_table.add_column(name, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        rich_table.add_row(*("" if value is None else escape(str(value)) for value in row))
    Console(highlight=False, width=None if sys.stdout.isatty() else 120).print(rich_table)


def funnel(accounts: "Sequence[Account]", title: str, retries: "Mapping[str, Pending] | None" = None) -> None:
    """Print the work status by stage. `retries`: by stage, the rejects that will be retried."""
    rows = []
    for a in accounts:
        pending = (retries or {}).get(a.stage)
        retried = (pending.waiting, pending.due) if pending else (None, None)
        filtered, rejected = sum(a.filtered.values()), sum(a.rejected.values())
        rows.append((a.stage, UNITS.get(a.stage, ""), a.inputs, a.done, filtered, rejected, *retried, reasons(a)))
    if retries is None:
        rows = [(*row[:6], row[8]) for row in rows]
    columns = [name for name in FUNNEL_COLUMNS if retries is not None or name not in ("waiting", "due")]
    table(title, columns, rows)


def reject_groups(title: str, groups: "Sequence[RejectGroup]") -> None:
    """Print one line per group of similar rejects, with the message of the first."""
    rows = []
    for g in groups:
        more = f" and {g.unnamed} more" if g.unnamed else ""
        at = g.next_attempt_at
        next_attempt = "never" if at is None else f"{datetime.fromtimestamp(at / 1e9, UTC):%Y-%m-%d %H:%M:%S} UTC"
        kind = f"{g.error_class}: {g.reason}" if g.reason else g.error_class
        rows.append((g.count, g.stage, kind, g.message, ", ".join(g.names) + more, g.attempts, next_attempt))
    if rows:
        table(title, ("count", "stage", "class", "first message", "items", "attempts", "next attempt"), rows)


def forecasts(stages: "Sequence[Forecast]") -> None:
    """Print the forecast of every stage."""
    counts = [(f.inputs, f.done, f.failed, f.waiting, f.left, f.stale, f.new, f.due, f.later) for f in stages]
    estimates = [(span(f), size(f.bytes), f.basis) for f in stages]
    rows = [(f.stage, *n, *e) for f, n, e in zip(stages, counts, estimates, strict=True)]
    columns = [k for k, name in enumerate(PLAN_COLUMNS) if name != "later" or any(f.later for f in stages)]
    title = "Planned work: left = stale + new + due"
    more = "; later = work expected from the remaining sources" if len(columns) == len(PLAN_COLUMNS) else ""
    table(title + more, [PLAN_COLUMNS[k] for k in columns], [[row[k] for k in columns] for row in rows])


def span(forecast: "Forecast") -> str:
    """Format the estimated time with its range: `3.4 h (2.9 h to 4.1 h)`."""
    text = duration(forecast.seconds)
    if forecast.least is None or not forecast.seconds:
        return text
    ends = duration(forecast.least), duration(forecast.most)
    return text if ends[0] == ends[1] else f"{text} ({ends[0]} to {ends[1]})"


def duration(seconds: float | None) -> str:
    """Format a duration: `3.4 h`."""
    if seconds is None:
        return UNKNOWN
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.1f} s"


def size(count: int | None) -> str:
    """Format a number of bytes: `3.4 GB`."""
    if count is None:
        return UNKNOWN
    for unit, length in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if count >= length:
            return f"{count / length:.1f} {unit}"
    return f"{count / 1e3:.1f} kB"


def reasons(account: "Account") -> str:
    """Format the most frequent filter and reject reasons of an account, with counts."""
    counts = sorted({**account.filtered, **account.rejected}.items(), key=lambda item: -item[1])
    more = f", and {len(counts) - REASONS} more" if len(counts) > REASONS else ""
    return ", ".join(f"{reason} {count}" for reason, count in counts[:REASONS]) + more


def accounts_json(accounts: "Sequence[Account]") -> list[dict[str, Any]]:
    """Convert accounts to JSON-compatible dicts."""
    return [vars(a) for a in accounts]
