"""List failed work that is not done, group similar failures, and schedule retries on request."""

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
"""`retry` refuses work with this many attempts, unless forced."""
NAMED = 3  # names stored per group
COLUMNS = ["reject_id", "item_id", "name", "error_class", "reason", "message", "attempts", "next_attempt_at"]


@dataclass
class RejectGroup:
    """Rejects with the same stage, class and reason whose messages differ only in names, paths and numbers."""

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
        """Number of rejects that are not listed in `names`."""
        return self.count - len(self.names)


@dataclass(frozen=True)
class Choice:
    """A filter for rejects: all given conditions must hold. `message` and `name` match as substrings."""

    error_class: str | None = None
    stage: str | None = None
    message: str | None = None
    name: str | None = None
    reason: str | None = None

    def rows(self, rejects: pa.Table) -> pa.Table:
        """Return the rejects that match."""
        selected = pa.array([True] * rejects.num_rows, pa.bool_())
        for column, value in (("error_class", self.error_class), ("stage", self.stage), ("reason", self.reason)):
            selected = selected if value is None else pc.and_(selected, pc.equal(rejects[column], value))
        for column, part in (("message", self.message), ("name", self.name)):
            selected = selected if part is None else pc.and_(selected, pc.match_substring(rejects[column], part))
        return rejects.filter(selected)


@dataclass(frozen=True)
class Retry:
    """Result of `retry`: the rejects that are due now, and those refused because of too many attempts."""

    due: pa.Table
    refused: pa.Table


def rejects(lake: Lake) -> pa.Table:
    """Return the last failed attempt at every piece of work that is not done, sorted by stage and name."""
    failures = open_failures(lake, None, COLUMNS)
    parts = [failures.slice(0, 0)]
    for stage in sorted(pc.unique(failures["stage"]).to_pylist(), key=_stage_order):
        rows = failures.filter(pc.equal(failures["stage"], stage))
        rows = rows.filter(pc.invert(among(rows["work_key"], lake.column(stage, "work_key"))))
        parts.append(rows.sort_by([("name", "ascending"), ("work_key", "ascending")]))
    return pa.concat_tables(parts)


def group_rejects(rows: pa.Table) -> list[RejectGroup]:
    """Group rejects by stage, class, reason and message pattern, the largest group first."""
    groups: dict[tuple[str, str, str | None, str], RejectGroup] = {}
    columns = ["stage", "error_class", "reason", "message", "name", "attempts", "next_attempt_at"]
    for start in range(0, rows.num_rows, CHUNK):
        chunk = rows.select(columns).slice(start, CHUNK).to_pydict().values()
        for stage, error_class, reason, message, name, attempts, next_at in zip(*chunk, strict=True):
            key = (stage, error_class, reason, _message_pattern(message, name))
            group = groups.setdefault(key, RejectGroup(stage, error_class, reason, message))
            group.count += 1
            group.attempts = max(group.attempts, attempts)
            if next_at is not None:
                group.next_attempt_at = min(next_at, group.next_attempt_at or next_at)
            if len(group.names) < NAMED:
                group.names.append(name)
    return sorted(groups.values(), key=lambda g: -g.count)


def retry(lake: Lake, choice: Choice, force: bool = False) -> Retry:
    """Make the chosen failures due now; refuse those with `MOST_ATTEMPTS` attempts, unless `force`.

    Idempotent: failures that are already due are not changed.
    """
    chosen = choice.rows(rejects(lake))
    exhausted = pc.and_(pc.greater_equal(chosen["attempts"], MOST_ATTEMPTS), pa.scalar(not force))
    refused, due = chosen.filter(exhausted), chosen.filter(pc.invert(exhausted))
    now = time.time_ns()
    not_due = pc.fill_null(pc.greater(due["next_attempt_at"], now), True)
    reject_ids = due["reject_id"].filter(not_due).sort()
    for start in range(0, len(reject_ids), CHUNK):
        _make_due(lake, reject_ids.slice(start, CHUNK).to_pylist(), now)
    column = due.column_names.index("next_attempt_at")
    return Retry(due.set_column(column, "next_attempt_at", pc.if_else(not_due, now, due[column])), refused)


def _make_due(lake: Lake, reject_ids: list[str], now: int) -> None:
    rows = lake.read("rejects", where=in_list("reject_id", reject_ids))
    previous_times = [(row["reject_id"], row["next_attempt_at"]) for row in rows]
    lake.append(next_run(lake, "retry", previous_times), {"rejects": [{**row, "next_attempt_at": now} for row in rows]})


def _stage_order(stage: str) -> tuple[int, str]:
    return (STAGES.index(stage) if stage in STAGES else len(STAGES), stage)


def _message_pattern(message: str, name: str) -> str:
    """Replace the name, paths, hashes and numbers in a message by "…", so that similar messages are equal."""
    return re.sub(r"\S*[/\\]\S*|[0-9a-f]{16,}|\d+", "…", message.replace(name, "…") if name else message)
