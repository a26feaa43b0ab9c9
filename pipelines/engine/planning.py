"""Turn a plan into a run: select the open work, split it into shards, lock the run and write its ledger entry.

The name of a stage is the name of the table that it fills.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from opendimo.pipelines.engine.columns import among
from opendimo.pipelines.engine.planned import Planned
from opendimo.pipelines.engine.retries import next_attempt, untried_attempts
from opendimo.pipelines.engine.stage import Outcome, Reject, Stage, Work
from opendimo.pipelines.engine.timing import run_timing
from opendimo.pipelines.engine.work_status import (
    DONE,
    RESOLVED,
    Account,
    WorkStatus,
    open_failures,
    without_result,
    work_status,
)
from opendimo.storage_schemas.ids import as_stored, stable_id
from opendimo.storage_schemas.lake import commit, runs
from opendimo.storage_schemas.lake.lake import Lake
from opendimo.storage_schemas.lake.ledger import ask_again, current_revision
from opendimo.storage_schemas.lake.lock import Held

RUN_LIMIT = 1 << 14  # pieces of work per run, which are committed together


@dataclass(frozen=True)
class Shard:
    """The part of a run that one worker processes before it stages the results.

    `attempts`: number of attempts by earlier runs, by work key; keys without any are missing. `untried`: how many of
    these did not count because the source had asked us to pause (reject reason `paused`).
    """

    run_id: str
    number: int
    works: list[Work]
    attempts: dict[str, int]
    untried: dict[str, int]


@dataclass(frozen=True)
class Run:
    """One run of a stage: its shards of work, and earlier attempts as in `Shard`.

    `began`: when the current driver started, in nanoseconds since 1970. An earlier driver may have started the run.
    """

    run_id: str
    shards: list[list[Work]]
    attempts: dict[str, int]
    untried: dict[str, int]
    began: int = field(default_factory=time.time_ns)

    def shard(self, number: int) -> Shard:
        """Return the shard with this number."""
        works = self.shards[number]
        attempts, untried = (
            {work.key: counts[work.key] for work in works if work.key in counts}
            for counts in (self.attempts, self.untried)
        )
        return Shard(self.run_id, number, works, attempts, untried)

    @property
    def size(self) -> int:
        """Number of pieces of work in all shards."""
        return sum(len(shard) for shard in self.shards)


def require_progress(stage: Stage, run: Run, before: tuple[Work, int | None] | None) -> tuple[Work, int | None]:
    """Return the first work item of a run with its attempts, to be passed as `before` for the next run of the plan.

    Raises `AssertionError` if it is the one of the run before: it was done, but another item writes the same row.
    """
    work = run.shards[0][0]
    first = work, run.attempts.get(work.key)
    if first == before:
        raise AssertionError(
            f"{stage.name}: {work.name} was done, but is still open: another piece of work writes the same row"
        )
    return first


@contextmanager
def prepare(lake: Lake, stage: Stage, planned: Planned, shard_size: int, limit: int = RUN_LIMIT) -> Iterator[Run]:
    """Yield the run that processes the open work of a plan, at most `limit` pieces of it.

    Open work is neither stored nor permanently failed. The run has no shards if no work is open. The caller drives the
    run, and holds its lock, until the context exits.

    The same open work gives the same run, with the shards of its first attempt; a second driver waits for the first.
    Shards that other runs of this stage staged before their driver died are committed first.
    """
    while True:
        keys, attempts, indices = _select_left(work_status(lake, stage.name, planned, time.time_ns()), limit)
        run_id = _run_id(lake, stage, keys, attempts)
        if _adopt_orphans(lake, stage.name, but=run_id):
            continue
        if not keys:
            if planned.revision and len(planned) and current_revision(lake, stage.name) != planned.revision:
                ask_again(lake, stage.name, _config(stage, planned))
            yield Run(run_id, [], {}, {})
            return
        with lake.lock(f"run-{run_id}"):
            if runs.is_committed(lake, run_id):  # by the driver that held the lock before us
                continue
            shards = [keys[i : i + shard_size] for i in range(0, len(keys), shard_size)]
            request = {"stage": stage.name, "config": _config(stage, planned), "shards": len(shards), "keys": shards}
            plan = runs.begin(lake, run_id, request)
            work = dict(zip(keys, planned.works(indices), strict=True))
            untried = untried_attempts(lake, stage.name, list(attempts))
            yield Run(run_id, [[work[k] for k in shard] for shard in plan["keys"]], attempts, untried)
            return


def stage_outcome(lake: Lake, shard: Shard, stage: Stage, outcome: Outcome) -> dict[str, Any]:
    """Stage the outcome of a shard; return its manifest.

    Raises `AssertionError` if a piece of work is missing from the outcome, or is reported as done without a row.
    """
    outcome.check(shard.works)
    if keys_without_row := set(outcome.done) - {row["work_key"] for row in outcome.rows.get(stage.name, [])}:
        raise AssertionError(f"{stage.name} reports work {min(keys_without_row)} as done, but returned no row for it")
    failed_rows = [_failed_row(shard, stage, reject) for reject in outcome.rejects]
    done = set(outcome.done)
    retried = [work for work in shard.works if work.key in shard.attempts and work.key in done]
    resolved_rows = [_attempt_row(shard, stage, work, RESOLVED, "done") for work in retried]
    rejected: dict[str, list[str]] = {}
    for reject in outcome.rejects:
        rejected.setdefault(reject.error_class, []).append(reject.key)
    note = {"done": outcome.done, "rejected": rejected, "times": outcome.times}
    rows = {**outcome.rows, "rejects": [*failed_rows, *resolved_rows]}
    return runs.stage_shard(lake, shard.run_id, shard.number, rows, note)


def finish(lake: Lake, run: Run, partial: bool = False) -> dict[str, int]:
    """Commit a run and return the number of rows per table.

    All shards must be staged; with `partial`, commit those that are.
    """
    return commit.commit(lake, run.run_id, _ledger_entry(lake, runs.read_plan(lake, run.run_id), run.began), partial)


def account(lake: Lake, stage: Stage, planned: Planned, filtered: dict[str, int] | None = None) -> Account:
    """Count the done, filtered and rejected work of a plan, from the current tables.

    Raises `AssertionError` if some work is in none of these states.
    """
    status = work_status(lake, stage.name, planned, time.time_ns())
    filtered = filtered or {}
    inputs = len(planned) + sum(filtered.values())
    empty = {
        reason: int(pc.sum(among(planned.keys, keys)).as_py() or 0)
        for reason, keys in without_result(lake, stage.name).items()
    }
    empty = {reason: count for reason, count in empty.items() if count}
    done = status.count(DONE) - sum(empty.values())
    return Account(stage.name, inputs, done, filtered | empty, status.rejected()).check()


def _select_left(status: WorkStatus, limit: int) -> tuple[list[str], dict[str, int], list[int]]:
    """Return the lowest `limit` open keys, in order; earlier attempts by key (if any); the indices in the plan."""
    keys = pa.table({"key": status.planned.keys.take(pa.array(status.left))})
    chosen = pc.select_k_unstable(keys, min(limit, keys.num_rows), [("key", "ascending")]).to_numpy()
    indices: np.ndarray = status.left[chosen]
    names = keys["key"].take(pa.array(chosen)).to_pylist()
    attempts_by_key = zip(names, status.attempts(indices), strict=True)
    return names, {key: attempts for key, attempts in attempts_by_key if attempts}, indices.tolist()


def _run_id(lake: Lake, stage: Stage, keys: list[str], attempts: dict[str, int]) -> str:
    """Return the id of the run: a hash of the open keys and their attempts, so the same open work gives the same id.

    If a run with this id is committed but its work is open again, its rows were replaced since (for example, a licence
    changed and changed back). Then a number in the hash is increased until the id is new.
    """
    request = (stage.name, stage.version, [(key, attempts.get(key, 0)) for key in keys])
    return runs.next_run(lake, "run", request) if keys else stable_id("run", request, 0)


def _adopt_orphans(lake: Lake, stage: str, but: str) -> bool:
    """Commit the staged shards of other runs of the stage whose drivers are dead; return whether there were any."""
    orphans = [p for p in runs.unfinished(lake) if p.get("stage") == stage and p["run_id"] != but]
    return any([_adopt(lake, plan) for plan in orphans])


def _adopt(lake: Lake, plan: dict[str, Any]) -> bool:
    try:
        with lake.lock(f"run-{plan['run_id']}", wait=False):
            if all(plan["run_id"] != left["run_id"] for left in runs.unfinished(lake)):
                return True  # another process committed it first
            commit.commit(lake, plan["run_id"], _ledger_entry(lake, plan), partial=True)
    except Held:  # its driver is alive
        return False
    return True


def _ledger_entry(
    lake: Lake, plan: dict[str, Any], began: int | None = None
) -> Callable[[list[dict[str, Any]]], dict[str, Any]]:
    """Return a function that builds the ledger entry of a run from the notes of its shards.

    `in` counts works that no earlier run completed or rejected, so the sum over all runs is the number of distinct
    works, even if runs overlap. `began`: start time of the driver, None if the driver is dead.
    """

    def facts(notes: list[dict[str, Any]]) -> dict[str, Any]:
        done = [key for note in notes for key in note["done"]]
        rejected: dict[str, list[str]] = {}
        for note in notes:
            for kind, keys in note["rejected"].items():
                rejected.setdefault(kind, []).extend(keys)
        spans = [times for note in notes for times in note.get("times", {}).items()]
        answered = pa.array([*done, *(key for keys in rejected.values() for key in keys)], pa.string())
        failed = open_failures(lake, f"stage = '{plan['stage']}'", [])["work_key"]
        counted_before = pc.or_(among(answered, lake.column(plan["stage"], "work_key")), among(answered, failed))
        counts = {
            "in": len(answered) - int(pc.sum(counted_before).as_py() or 0),
            "done": len(done),
            "rejected": {kind: len(keys) for kind, keys in rejected.items()},
            **run_timing(spans, None if began is None else (began, time.time_ns())),
        }
        return {"stage": plan["stage"], "config": plan["config"], "counts": counts}

    return facts


def _config(stage: Stage, planned: Planned) -> dict[str, Any]:
    """Return the version, config and revision of a stage, as stored in the ledger."""
    return {"version": stage.version, "config": as_stored(stage.config), "revision": planned.revision}


def _failed_row(shard: Shard, stage: Stage, reject: Reject) -> dict[str, Any]:
    """Return the row of `rejects` for a failed attempt."""
    row = _attempt_row(shard, stage, reject, reject.error_class, reject.message)
    next_at = next_attempt(reject, row["attempts"] - shard.untried.get(reject.key, 0))
    return row | {"traceback": reject.traceback, "reason": reject.reason, "next_attempt_at": next_at}


def _attempt_row(shard: Shard, stage: Stage, work: Work | Reject, kind: str, message: str) -> dict[str, Any]:
    """Return the row of `rejects` for one attempt, failed or successful."""
    attempts = shard.attempts.get(work.key, 0) + 1
    return {
        "reject_id": stable_id("reject", work.key, attempts),
        "stage": stage.name,
        "item_id": work.item_id,
        "name": work.name,
        "error_class": kind,
        "message": message,
        "attempts": attempts,
        "work_key": work.key,
    }
