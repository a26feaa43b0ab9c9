"""Where everything went: the stages' accounts as bars, and the rejects, alike ones in one line."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from pipelines import status
from pipelines.planning import Account
from pipelines.quality import Policy
from storage_schemas.lake import Lake

Row = dict[str, Any]
COUNTED = {
    "sources": "source items",
    "clips": "source items to cut",
    "verdict": "clips judged",
    "poses": "kept clips, or views of one take",
    "captions": "kept clips",
    "latents": "kept clips",
    "pairs": "sets of pairs",
}
"""What one input of each stage is."""
NAMED = 3


@dataclass(frozen=True)
class Funnel:
    """Accounts of all stages; `problem` where they do not agree with what is stored, and then only the verdict."""

    accounts: list[Account]
    rows: dict[str, int]
    problem: str | None


@dataclass(frozen=True)
class RejectGroup:
    """Rejects of one stage and class whose messages differ in names, paths and numbers only."""

    stage: str
    error_class: str
    message: str
    count: int
    attempts: int
    next_attempt_at: int | None
    names: list[str]

    @property
    def unnamed(self) -> int:
        """Rejects that `names` does not name."""
        return self.count - len(self.names)


def read_funnel(lake: Lake, policy: Policy) -> Funnel:
    """The accounts, and how many rows each stage stored."""
    rows = {stage: lake.dataset(stage).count_rows() for stage in status.STAGES}
    try:
        return Funnel(status.funnel(lake, policy), rows, None)
    except AssertionError as error:
        return Funnel([status.verdict_account(lake, policy)], rows, str(error))


def group_rejects(rejects: Iterable[Row]) -> list[RejectGroup]:
    """Rejects by stage, class and message, the most frequent first."""
    groups: dict[tuple[str, str, str], list[Row]] = {}
    for row in rejects:
        groups.setdefault((row["stage"], row["error_class"], _pattern(row)), []).append(row)
    found = [
        RejectGroup(
            stage,
            error_class,
            rows[0]["message"],
            len(rows),
            max(row["attempts"] for row in rows),
            min((row["next_attempt_at"] for row in rows if row.get("next_attempt_at")), default=None),
            [row["name"] for row in rows[:NAMED]],
        )
        for (stage, error_class, _), rows in groups.items()
    ]
    return sorted(found, key=lambda g: -g.count)


def _pattern(row: Row) -> str:
    """The message without what differs from item to item."""
    message = row["message"].replace(row["name"], "…") if row["name"] else row["message"]
    return re.sub(r"\S*[/\\]\S*|[0-9a-f]{16,}|\d+", "…", message)
