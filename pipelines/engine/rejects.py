"""Work that failed and is not done: which, alike failures in one line, and another attempt on request."""

import re
import time
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc

from opendimo.pipelines.engine.columns import among
from opendimo.pipelines.engine.planned import CHUNK
from opendimo.pipelines.engine.work_status import STAGES, open_failures
from opendimo.storage_schemas.lake.lake import Lake
from opendimo.storage_schemas.lake.runs import next_run
from opendimo.storage_schemas.rows import in_list

CLASSES = ("transient", "permanent", "data", "bug")
MOST_ATTEMPTS = 10
"""No request tries the same work more often, unless forced."""
NAMED = 3
COLUMNS = ["reject_id", "item_id", "name", "error_class", "reason", "message", "attempts", "next_attempt_at"]


@dataclass
class RejectGroup:
    """Rejects of one stage, class and reason whose messages differ in names, paths and numbers only."""

    stage: str
    error_class: str
    reason: str | None
    message: str
    count: int = 0
    attempts: int = 0
    next_attempt_at: int | None = None
    names: list[str] = field(default_factory=list)

    @property
    def unnamed(self) -> int:
        """Rejects that `names` does not name."""
        return self.count - len(self.names)


@dataclass(frozen=True)
class Choice:
    """Which failures to try again: those that meet every condition given; `message` and `name` are parts of them."""

    error_class: str | None = None
    stage: str | None = None
    message: str | None = None
    name: str | None = None
    reason: str | None = None

    def rows(self, rejects: pa.Table) -> pa.Table:
        """The rejects that are meant."""
        meant = pa.array([True] * rejects.num_rows, pa.bool_())
        for column, wanted in (("error_class", self.error_class), ("stage", self.stage), ("reason", self.reason)):
            meant = meant if wanted is None else pc.and_(meant, pc.equal(rejects[column], wanted))
        for column, part in (("message", self.message), ("name", self.name)):
            meant = meant if part is None else pc.and_(meant, pc.match_substring(rejects[column], part))
        return rejects.filter(meant)


@dataclass(frozen=True)
class Retry:
    """What is due after a request: the rejects that will be tried again, and those that were tried too often."""

    due: pa.Table
    refused: pa.Table


def rejects(lake: Lake) -> pa.Table:
    """The last failed attempt at every piece of work that is not done, by stage and name."""
    failed = open_failures(lake, None, COLUMNS)
    parts = [failed.slice(0, 0)]
    for stage in sorted(pc.unique(failed["stage"]).to_pylist(), key=_place):
        rows = failed.filter(pc.equal(failed["stage"], stage))
        rows = rows.filter(pc.invert(among(rows["work_key"], lake.column(stage, "work_key"))))
        parts.append(rows.sort_by([("name", "ascending"), ("work_key", "ascending")]))
    return pa.concat_tables(parts)


def group_rejects(rows: pa.Table) -> list[RejectGroup]:
    """Rejects by stage, class, reason and message, the most frequent first."""
    groups: dict[tuple[str, str, str | None, str], RejectGroup] = {}
    columns = ["stage", "error_class", "reason", "message", "name", "attempts", "next_attempt_at"]
    for start in range(0, rows.num_rows, CHUNK):
        chunk = rows.select(columns).slice(start, CHUNK).to_pydict().values()
        for stage, error_class, reason, message, name, attempts, next_at in zip(*chunk, strict=True):
            key = (stage, error_class, reason, _pattern(message, name))
            group = groups.setdefault(key, RejectGroup(stage, error_class, reason, message))
            group.count += 1
            group.attempts = max(group.attempts, attempts)
            if next_at is not None:
                group.next_attempt_at = min(next_at, group.next_attempt_at or next_at)
            if len(group.names) < NAMED:
                group.names.append(name)
    return sorted(groups.values(), key=lambda g: -g.count)


def retry(lake: Lake, choice: Choice, force: bool = False) -> Retry:
    """Make the chosen failures due now, except those that were tried `MOST_ATTEMPTS` times, unless `force`.

    What is due already stays so: the same request again changes nothing.
    """
    chosen = choice.rows(rejects(lake))
    spent = pc.and_(pc.greater_equal(chosen["attempts"], MOST_ATTEMPTS), pa.scalar(not force))
    refused, due = chosen.filter(spent), chosen.filter(pc.invert(spent))
    now = time.time_ns()
    waits = pc.fill_null(pc.greater(due["next_attempt_at"], now), True)
    late = due["reject_id"].filter(waits).sort()
    for start in range(0, len(late), CHUNK):
        _make_due(lake, late.slice(start, CHUNK).to_pylist(), now)
    column = due.column_names.index("next_attempt_at")
    return Retry(due.set_column(column, "next_attempt_at", pc.if_else(waits, now, due[column])), refused)


def _make_due(lake: Lake, reject_ids: list[str], now: int) -> None:
    rows = lake.read("rejects", where=in_list("reject_id", reject_ids))
    before = [(row["reject_id"], row["next_attempt_at"]) for row in rows]
    lake.append(next_run(lake, "retry", before), {"rejects": [{**row, "next_attempt_at": now} for row in rows]})


def _place(stage: str) -> tuple[int, str]:
    return (STAGES.index(stage) if stage in STAGES else len(STAGES), stage)


def _pattern(message: str, name: str) -> str:
    """The message without what differs from item to item."""
    return re.sub(r"\S*[/\\]\S*|[0-9a-f]{16,}|\d+", "…", message.replace(name, "…") if name else message)
