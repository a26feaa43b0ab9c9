"""How commands answer: tables for people, JSON for machines."""

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
    "rigs": "captures of several cameras",
    "verdict": "clips",
    "poses": "clips, or views of a take",
    "captions": "clips",
    "latents": "clips",
    "pairs": "sets of pairs",
}
REASONS = 4  # named in one cell
FUNNEL_COLUMNS = ("stage", "of", "in", "done", "filtered", "rejected", "waiting", "due", "why")
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
UNKNOWN = "unknown yet"


def as_json(value: Any) -> None:
    """One JSON document on standard output."""
    json.dump(value, sys.stdout, indent=1, sort_keys=True, default=str)
    print()


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """A table on standard output; numbers to the right."""
    shown = Table(title=title, title_justify="left", title_style="bold")
    for k, name in enumerate(columns):
        numeric = bool(rows) and all(isinstance(row[k], (int, float, type(None))) for row in rows)
        shown.add_column(name, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        shown.add_row(*("" if value is None else escape(str(value)) for value in row))
    Console(highlight=False, width=None if sys.stdout.isatty() else 120).print(shown)


def funnel(accounts: "Sequence[Account]", again: "Mapping[str, Pending] | None" = None) -> None:
    """Where everything went, stage by stage; `again`: which of the rejected are tried again."""
    rows = []
    for a in accounts:
        pending = (again or {}).get(a.stage)
        tried = (pending.waiting, pending.due) if pending else (None, None)
        filtered, rejected = sum(a.filtered.values()), sum(a.rejected.values())
        rows.append((a.stage, UNITS.get(a.stage, ""), a.inputs, a.done, filtered, rejected, *tried, reasons(a)))
    if again is None:
        rows = [(*row[:6], row[8]) for row in rows]
    columns = [name for name in FUNNEL_COLUMNS if again is not None or name not in ("waiting", "due")]
    table("Where everything went", columns, rows)


def reject_groups(title: str, groups: "Sequence[RejectGroup]") -> None:
    """A line for alike rejects, with an example."""
    rows = []
    for g in groups:
        more = f" and {g.unnamed} more" if g.unnamed else ""
        at = g.next_attempt_at
        then = "never" if at is None else f"{datetime.fromtimestamp(at / 1e9, UTC):%Y-%m-%d %H:%M:%S} UTC"
        kind = f"{g.error_class}: {g.reason}" if g.reason else g.error_class
        rows.append((g.count, g.stage, kind, g.message, ", ".join(g.names) + more, g.attempts, then))
    if rows:
        table(title, ("count", "stage", "class", "message of the first", "of", "tries", "next try"), rows)


def forecasts(found: "Sequence[Forecast]") -> None:
    """What would run."""
    numbers = [(f.inputs, f.done, f.failed, f.waiting, f.left, f.stale, f.new, f.due, f.later) for f in found]
    estimates = [(span(f), size(f.bytes), f.basis) for f in found]
    rows = [(f.stage, *n, *e) for f, n, e in zip(found, numbers, estimates, strict=True)]
    shown = [k for k, name in enumerate(PLAN_COLUMNS) if name != "later" or any(f.later for f in found)]
    title = "What would run: left = stale + new + due"
    more = "; later: work that what is left of the sources will make" if len(shown) == len(PLAN_COLUMNS) else ""
    table(title + more, [PLAN_COLUMNS[k] for k in shown], [[row[k] for k in shown] for row in rows])


def span(forecast: "Forecast") -> str:
    """`3.4 h (2.9 h to 4.1 h)`."""
    text = duration(forecast.seconds)
    if forecast.least is None or not forecast.seconds:
        return text
    ends = duration(forecast.least), duration(forecast.most)
    return text if ends[0] == ends[1] else f"{text} ({ends[0]} to {ends[1]})"


def duration(seconds: float | None) -> str:
    """`3.4 h`."""
    if seconds is None:
        return UNKNOWN
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.1f} s"


def size(count: int | None) -> str:
    """`3.4 GB`."""
    if count is None:
        return UNKNOWN
    for unit, length in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if count >= length:
            return f"{count / length:.1f} {unit}"
    return f"{count / 1e3:.1f} kB"


def reasons(account: "Account") -> str:
    """The commonest reasons, with counts."""
    counts = sorted({**account.filtered, **account.rejected}.items(), key=lambda item: -item[1])
    more = f", and {len(counts) - REASONS} more" if len(counts) > REASONS else ""
    return ", ".join(f"{reason} {count}" for reason, count in counts[:REASONS]) + more


def accounts_json(accounts: "Sequence[Account]") -> list[dict[str, Any]]:
    """Accounts for machines."""
    return [vars(a) for a in accounts]
