"""What is left to do: an anti-join of work keys against what is stored, cut into shards; and the account afterwards.

The name of a stage is the name of the table that it fills.
"""

import json
import time
from collections import Counter
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from pipelines.stage import Outcome, Stage, Work
from storage_schemas import commit
from storage_schemas.ids import stable_id
from storage_schemas.lake import Lake

MAX_ATTEMPTS = 3
BACKOFF_NS = 60 * 1_000_000_000  # doubled with each attempt


@dataclass(frozen=True)
class Run:
    """One run of a stage: its shards of work, and the attempts that earlier runs made at some of it."""

    run_id: str
    shards: list[list[Work]]
    attempts: dict[str, int]

    @property
    def size(self) -> int:
        """Pieces of work in all shards."""
        return sum(len(shard) for shard in self.shards)


@dataclass(frozen=True)
class Account:
    """Where the inputs of a stage went: `inputs = done + filtered + rejected`."""

    stage: str
    inputs: int
    done: int
    filtered: dict[str, int] = field(default_factory=dict)
    rejected: dict[str, int] = field(default_factory=dict)

    def check(self) -> "Account":
        """Return self; raise `AssertionError` where an input is unaccounted for."""
        total = self.done + sum(self.filtered.values()) + sum(self.rejected.values())
        if total != self.inputs:
            raise AssertionError(f"{self.stage}: {self.inputs} in, but {total} accounted for")
        return self


def prepare(lake: Lake, stage: Stage, works: list[Work], shard_size: int) -> Run:
    """The run that does what is left of `works`: what is neither stored nor finally rejected.

    The same leftover is the same run, with the shards of its first attempt. Runs that were killed around their commit
    are committed first: some of their tables may hold rows already, and the others must not stay without.
    """
    for plan in commit.unfinished(lake):
        if "stage" in plan:
            _finish(lake, plan)
    attempts, final = _attempts(lake, stage.name)
    done = lake.keys(stage.name, "work_key") | final
    left = {w.key: w for w in works if w.key not in done}
    keys = sorted(left)
    request = (stage.name, stage.version, [(k, attempts.get(k, 0)) for k in keys])
    # what was committed and is left again was replaced in between (a licence that changed and changed back)
    run_id = next(
        run_id for n in count() if not commit.is_committed(lake, run_id := stable_id("run", request, n)) or not keys
    )
    if not keys:
        return Run(run_id, [], {})
    shards = [keys[i : i + shard_size] for i in range(0, len(keys), shard_size)]
    facts = {
        "stage": stage.name,
        "config": {"version": stage.version, "config": json.loads(json.dumps(stage.config, default=vars))},
        "fresh": sum(1 for key in keys if key not in attempts),
    }
    plan = commit.begin(lake, run_id, {"shards": len(shards), "keys": shards, **facts})
    return Run(run_id, [[left[k] for k in shard] for shard in plan["keys"]], attempts)


def stage_outcome(lake: Lake, run: Run, shard: int, stage: Stage, outcome: Outcome) -> dict[str, Any]:
    """Stage what a worker made of a shard. Raises `AssertionError` where an input is unaccounted for."""
    outcome.check(run.shards[shard])
    rejects = [
        {
            "reject_id": stable_id("reject", r.key, run.attempts.get(r.key, 0) + 1),
            "stage": stage.name,
            "item_id": r.item_id,
            "name": r.name,
            "error_class": r.error_class,
            "message": r.message,
            "traceback": r.traceback,
            "attempts": run.attempts.get(r.key, 0) + 1,
            "next_attempt_at": _next_attempt(r.error_class, run.attempts.get(r.key, 0) + 1),
            "work_key": r.key,
        }
        for r in outcome.rejects
    ]
    note = {"done": len(outcome.done), "rejected": Counter(r.error_class for r in outcome.rejects)}
    return commit.stage_shard(lake, run.run_id, shard, {**outcome.rows, "rejects": rejects}, note)


def finish(lake: Lake, run: Run) -> dict[str, int]:
    """Commit a run of which every shard is staged; return the rows per table."""
    return _finish(lake, commit.read_plan(lake, run.run_id))


def _finish(lake: Lake, plan: dict[str, Any]) -> dict[str, int]:
    notes = [(commit.staged(lake, plan["run_id"], k) or {}).get("note", {}) for k in range(plan["shards"])]
    rejected: Counter[str] = Counter()
    for note in notes:
        rejected.update(note.get("rejected", {}))
    counts = {"in": plan["fresh"], "done": sum(note.get("done", 0) for note in notes), "rejected": rejected}
    facts = {"stage": plan["stage"], "config": plan["config"], "counts": counts}
    return commit.commit(lake, plan["run_id"], facts)


def account(lake: Lake, stage: Stage, works: list[Work], filtered: dict[str, int] | None = None) -> Account:
    """Count where `works` went, by what is stored now. Raises `AssertionError` where one is unaccounted for."""
    keys = {w.key for w in works}
    done = keys & lake.keys(stage.name, "work_key")
    last: dict[str, str] = {}
    for row in sorted(_rejects(lake, stage.name), key=lambda r: r["attempts"]):
        last[row["work_key"]] = row["error_class"]
    rejected = Counter(kind for key, kind in last.items() if key in keys - done)
    filtered = filtered or {}
    inputs = len(keys) + sum(filtered.values())
    return Account(stage.name, inputs, len(done), filtered, dict(rejected)).check()


def _rejects(lake: Lake, stage: str) -> list[dict[str, Any]]:
    columns = ["work_key", "attempts", "error_class", "next_attempt_at"]
    return lake.read("rejects", columns, f"stage = '{stage}'")


def _attempts(lake: Lake, stage: str) -> tuple[dict[str, int], set[str]]:
    """Attempts so far by work key, and the keys that are not tried again (now)."""
    rows = sorted(_rejects(lake, stage), key=lambda r: r["attempts"])
    last = {row["work_key"]: row for row in rows}
    now = time.time_ns()
    final = {k for k, r in last.items() if r["next_attempt_at"] is None or r["next_attempt_at"] > now}
    return {k: r["attempts"] for k, r in last.items()}, final


def _next_attempt(error_class: str, attempts: int) -> int | None:
    if error_class != "transient" or attempts >= MAX_ATTEMPTS:
        return None
    return time.time_ns() + BACKOFF_NS * 2 ** (attempts - 1)
