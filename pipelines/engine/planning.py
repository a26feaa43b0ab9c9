"""From a plan to a run: what is left of it, cut into shards; whose run it is; and what a commit writes into the ledger.

The name of a stage is the name of the table that it fills.
"""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from opendimo.pipelines.engine.columns import among
from opendimo.pipelines.engine.planned import Planned
from opendimo.pipelines.engine.stage import PAUSED, Outcome, Reject, Stage, Work
from opendimo.pipelines.engine.timing import spent
from opendimo.pipelines.engine.work_status import DONE, RESOLVED, Account, Standing, open_failures, standing
from opendimo.storage_schemas.ids import stable_id
from opendimo.storage_schemas.lake import commit, runs
from opendimo.storage_schemas.lake.lake import Lake
from opendimo.storage_schemas.lake.ledger import ask_again, current_revision
from opendimo.storage_schemas.lake.lock import Held

MAX_ATTEMPTS = 3
BACKOFF_NS = 60 * 1_000_000_000  # doubled with each attempt
RUN_LIMIT = 1 << 14  # pieces of work that one run commits at once


@dataclass(frozen=True)
class Shard:
    """What one worker does of a run before it stages; `attempts` that earlier runs made at some of it, by key, and how
    many of those were `untried`: nobody was asked."""

    run_id: str
    number: int
    works: list[Work]
    attempts: dict[str, int]
    untried: dict[str, int]


@dataclass(frozen=True)
class Run:
    """One run of a stage: its shards of work, and the attempts that earlier runs made at some of it, as in `Shard`.
    `began`: when its driver did, nanoseconds since 1970; it may not be the first."""

    run_id: str
    shards: list[list[Work]]
    attempts: dict[str, int]
    untried: dict[str, int]
    began: int = field(default_factory=time.time_ns)

    def shard(self, number: int) -> Shard:
        """One shard."""
        works = self.shards[number]
        made, untried = (
            {work.key: counts[work.key] for work in works if work.key in counts}
            for counts in (self.attempts, self.untried)
        )
        return Shard(self.run_id, number, works, made, untried)

    @property
    def size(self) -> int:
        """Pieces of work in all shards."""
        return sum(len(shard) for shard in self.shards)


@contextmanager
def prepare(lake: Lake, stage: Stage, planned: Planned, shard_size: int, limit: int = RUN_LIMIT) -> Iterator[Run]:
    """The run that does what is left of a plan, or its first `limit` pieces: what is neither stored nor has failed for
    good. Without shards where nothing is left. The caller is its driver as long as the context.

    The same leftover is the same run, with the shards of its first attempt; a second driver of it waits for the first.
    What other runs of this stage staged before they died is committed first.
    """
    while True:
        keys, attempts, places = _left(standing(lake, stage.name, planned, time.time_ns()), limit)
        run_id = _run_id(lake, stage, keys, attempts)
        if _adopt_orphans(lake, stage.name, but=run_id):
            continue
        if not keys:
            if planned.revision and len(planned) and current_revision(lake, stage.name) != planned.revision:
                ask_again(lake, stage.name, _config(stage, planned))
            yield Run(run_id, [], {}, {})
            return
        with lake.lock(f"run-{run_id}"):
            if runs.is_committed(lake, run_id):  # by whom we waited for
                continue
            shards = [keys[i : i + shard_size] for i in range(0, len(keys), shard_size)]
            request = {"stage": stage.name, "config": _config(stage, planned), "shards": len(shards), "keys": shards}
            plan = runs.begin(lake, run_id, request)
            work = dict(zip(keys, planned.works(places), strict=True))
            untried = _untried(lake, stage.name, list(attempts))
            yield Run(run_id, [[work[k] for k in shard] for shard in plan["keys"]], attempts, untried)
            return


def stage_outcome(lake: Lake, shard: Shard, stage: Stage, outcome: Outcome) -> dict[str, Any]:
    """Stage what a worker made of a shard. Raises `AssertionError` where an input is unaccounted for."""
    outcome.check(shard.works)
    if silent := set(outcome.done) - {row["work_key"] for row in outcome.rows.get(stage.name, [])}:
        raise AssertionError(f"{stage.name} says that work {min(silent)} is done, but has no row of it")
    failed = [_failed(shard, stage, reject) for reject in outcome.rejects]
    done = set(outcome.done)
    again = [work for work in shard.works if work.key in shard.attempts and work.key in done]
    resolved = [_attempt(shard, stage, work, RESOLVED, "done") for work in again]
    rejected: dict[str, list[str]] = {}
    for reject in outcome.rejects:
        rejected.setdefault(reject.error_class, []).append(reject.key)
    note = {"done": outcome.done, "rejected": rejected, "times": outcome.times}
    rows = {**outcome.rows, "rejects": [*failed, *resolved]}
    return runs.stage_shard(lake, shard.run_id, shard.number, rows, note)


def finish(lake: Lake, run: Run, partial: bool = False) -> dict[str, int]:
    """Commit a run of which every shard is staged, or with `partial` those that are; return the rows per table."""
    return commit.commit(lake, run.run_id, _facts(lake, runs.read_plan(lake, run.run_id), run.began), partial)


def account(lake: Lake, stage: Stage, planned: Planned, filtered: dict[str, int] | None = None) -> Account:
    """Count where the works of a plan went, by what is stored now. Raises `AssertionError` where one is unaccounted
    for."""
    found = standing(lake, stage.name, planned, time.time_ns())
    filtered = filtered or {}
    inputs = len(planned) + sum(filtered.values())
    return Account(stage.name, inputs, found.count(DONE), filtered, found.rejected()).check()


def _left(found: Standing, limit: int) -> tuple[list[str], dict[str, int], list[int]]:
    """The first `limit` keys that are left, in order, the attempts made at some of them, and their places."""
    keys = pa.table({"key": found.planned.keys.take(pa.array(found.left))})
    chosen = pc.select_k_unstable(keys, min(limit, keys.num_rows), [("key", "ascending")]).to_numpy()
    places: np.ndarray = found.left[chosen]
    names = keys["key"].take(pa.array(chosen)).to_pylist()
    made = zip(names, found.attempts(places), strict=True)
    return names, {key: attempts for key, attempts in made if attempts}, places.tolist()


def _untried(lake: Lake, stage: str, keys: list[str]) -> dict[str, int]:
    """How many of the attempts at some works asked nobody, where there were such."""
    where = f"stage = '{stage}' AND reason = '{PAUSED}'"
    paused = lake.dataset("rejects").to_table(columns=["work_key"], filter=where)["work_key"]
    counts = paused.filter(among(paused, pa.array(keys, pa.string()))).value_counts().to_pylist()
    return {entry["values"]: entry["counts"] for entry in counts}


def _run_id(lake: Lake, stage: Stage, keys: list[str], attempts: dict[str, int]) -> str:
    """The same for the same leftover. What was committed and is left again was replaced in between (a licence that
    changed and changed back): then it is counted up."""
    request = (stage.name, stage.version, [(key, attempts.get(key, 0)) for key in keys])
    names = (stable_id("run", request, number) for number in count())
    return next(run_id for run_id in names if not keys or not runs.is_committed(lake, run_id))


def _adopt_orphans(lake: Lake, stage: str, but: str) -> bool:
    """Commit what other runs of the stage staged whose drivers are dead; whether there were any."""
    orphans = [p for p in runs.unfinished(lake) if p.get("stage") == stage and p["run_id"] != but]
    return any([_adopt(lake, plan) for plan in orphans])


def _adopt(lake: Lake, plan: dict[str, Any]) -> bool:
    try:
        with lake.lock(f"run-{plan['run_id']}", wait=False):
            if all(plan["run_id"] != left["run_id"] for left in runs.unfinished(lake)):
                return True  # somebody else was faster
            commit.commit(lake, plan["run_id"], _facts(lake, plan), partial=True)
    except Held:  # its driver lives
        return False
    return True


def _facts(
    lake: Lake, plan: dict[str, Any], began: int | None = None
) -> Callable[[list[dict[str, Any]]], dict[str, Any]]:
    """What goes into the ledger. `in` counts the works that nobody answered before, so that the sum over all runs is
    the number of works that were ever answered, whatever runs overlap. `began`: when the driver did, where one lives.
    """

    def facts(notes: list[dict[str, Any]]) -> dict[str, Any]:
        done = [key for note in notes for key in note["done"]]
        rejected: dict[str, list[str]] = {}
        for note in notes:
            for kind, keys in note["rejected"].items():
                rejected.setdefault(kind, []).extend(keys)
        clocks = [times for note in notes for times in note.get("times", {}).items()]
        answered = pa.array([*done, *(key for keys in rejected.values() for key in keys)], pa.string())
        failed = open_failures(lake, f"stage = '{plan['stage']}'", [])["work_key"]
        known = pc.or_(among(answered, lake.column(plan["stage"], "work_key")), among(answered, failed))
        counts = {
            "in": len(answered) - int(pc.sum(known).as_py() or 0),
            "done": len(done),
            "rejected": {kind: len(keys) for kind, keys in rejected.items()},
            **spent(clocks, None if began is None else (began, time.time_ns())),
        }
        return {"stage": plan["stage"], "config": plan["config"], "counts": counts}

    return facts


def _config(stage: Stage, planned: Planned) -> dict[str, Any]:
    """What the ledger says about a stage."""
    config = json.loads(json.dumps(stage.config, default=vars))
    return {"version": stage.version, "config": config, "revision": planned.revision}


def _failed(shard: Shard, stage: Stage, reject: Reject) -> dict[str, Any]:
    """The row of `rejects` of an attempt that failed."""
    row = _attempt(shard, stage, reject, reject.error_class, reject.message)
    next_at = _next_attempt(reject, row["attempts"] - shard.untried.get(reject.key, 0))
    return row | {"traceback": reject.traceback, "reason": reject.reason, "next_attempt_at": next_at}


def _attempt(shard: Shard, stage: Stage, work: Work | Reject, kind: str, message: str) -> dict[str, Any]:
    """The row of `rejects` of one attempt."""
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


def _next_attempt(reject: Reject, tried: int) -> int | None:
    """When to try again, nanoseconds since 1970; `tried`: attempts so far that asked somebody, and this one."""
    if reject.error_class != "transient" or (tried >= MAX_ATTEMPTS and not reject.untried):
        return None
    backoff = time.time_ns() + BACKOFF_NS * 2 ** min(tried - 1, MAX_ATTEMPTS)
    return max(backoff, reject.not_before or 0)
