"""How commands answer: tables for people, JSON for machines."""

import json
import sys
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from pipelines.planning import Account

UNITS = {
    "sources": "source items",
    "clips": "source items",
    "verdict": "clips",
    "poses": "clips, or views of a take",
    "captions": "clips",
    "latents": "clips",
    "pairs": "sets of pairs",
}
REASONS = 4  # named in one cell
FUNNEL_COLUMNS = ("stage", "of", "in", "done", "filtered", "rejected", "why")


def as_json(value: Any) -> None:
    """One JSON document on standard output."""
    json.dump(value, sys.stdout, indent=1, sort_keys=True, default=str)
    print()


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """A table on standard output; numbers to the right."""
    shown = Table(title=title, title_justify="left", title_style="bold")
    for k, name in enumerate(columns):
        numeric = bool(rows) and all(isinstance(row[k], (int, float)) for row in rows)
        shown.add_column(name, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        shown.add_row(*("" if value is None else escape(str(value)) for value in row))
    Console(highlight=False, width=None if sys.stdout.isatty() else 120).print(shown)


def funnel(accounts: Sequence[Account]) -> None:
    """Where everything went, stage by stage."""
    rows = [
        (
            a.stage,
            UNITS.get(a.stage, ""),
            a.inputs,
            a.done,
            sum(a.filtered.values()),
            sum(a.rejected.values()),
            reasons(a),
        )
        for a in accounts
    ]
    table("Where everything went", FUNNEL_COLUMNS, rows)


def reasons(account: Account) -> str:
    """The commonest reasons, with counts."""
    counts = sorted({**account.filtered, **account.rejected}.items(), key=lambda item: -item[1])
    more = f", and {len(counts) - REASONS} more" if len(counts) > REASONS else ""
    return ", ".join(f"{reason} {count}" for reason, count in counts[:REASONS]) + more


def accounts_json(accounts: Sequence[Account]) -> list[dict[str, Any]]:
    """Accounts for machines."""
    return [vars(a) for a in accounts]
