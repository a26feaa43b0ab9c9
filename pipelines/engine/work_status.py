"""Where each planned piece of work stands: done, failed, waiting for its next attempt, due for it, or new."""

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from opendimo.pipelines.engine.columns import Column, among, last_of
from opendimo.pipelines.engine.planned import Planned
from opendimo.storage_schemas.ids import stable_id
from opendimo.storage_schemas.lake.lake import Lake

STAGES = ("sources", "clips", "duplicates", "rigs", "poses", "captions", "latents", "pairs")
"""All stages, in order; each is named after the table that it fills."""

STATES = ("new", "done", "failed", "waiting", "due")
NEW, DONE, FAILED, WAITING, DUE = range(len(STATES))
RESOLVED = "resolved"
"""The class of the attempt that succeeded after failed ones: it ends the failure."""

ITEM = {
    "clips": "source_id",
    "duplicates": "clip_id",
    "rigs": "capture_id",
    "poses": "clip_id",
    "captions": "clip_id",
    "latents": "clip_id",
}
"""The column of each stage's table that holds the `item_id` of its work."""


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


@dataclass(frozen=True)
class Standing:
    """`state` of each piece of work (a place in `STATES`), and which row of `failures` says why (-1: none)."""

    planned: Planned
    state: np.ndarray
    failure: np.ndarray
    failures: pa.Table

    @cached_property
    def left(self) -> np.ndarray:
        """Places of the works that are to be done now."""
        return np.flatnonzero((self.state == NEW) | (self.state == DUE))

    def count(self, state: int) -> int:
        """How many are in this state."""
        return int((self.state == state).sum())

    def attempts(self, places: np.ndarray) -> list[int]:
        """Attempts that earlier runs made at the works in these places."""
        made = self.failures["attempts"].to_numpy()
        return [int(made[k]) if k >= 0 else 0 for k in self.failure[places]]

    def rejected(self) -> dict[str, int]:
        """Works that failed and are not done, by class."""
        failed = self.failure[(self.state != DONE) & (self.failure >= 0)]
        counts = self.failures["error_class"].take(pa.array(failed)).value_counts().to_pylist()
        return {entry["values"]: entry["counts"] for entry in counts if entry["values"] != RESOLVED}


def standing(lake: Lake, stage: str, planned: Planned, now: int) -> Standing:
    """Where the works of a plan stand at `now` (nanoseconds since 1970): an anti-join with the stage's table and its
    rejects."""
    failures = last_attempts(lake, f"stage = '{stage}'", ["work_key", "error_class", "next_attempt_at"])
    failure = pc.fill_null(pc.index_in(planned.keys, value_set=failures["work_key"]), -1).to_numpy()
    by_failure = np.append(_states(failures, now), NEW)  # -1 is the last one
    done = among(planned.keys, lake.column(stage, "work_key")).to_numpy(zero_copy_only=False)
    return Standing(planned, np.where(done, DONE, by_failure[failure]).astype(np.int8), failure, failures)


def stale(lake: Lake, stage: str, found: Standing) -> int:
    """How many of the works that are left have rows under another key only: of another version, config or input."""
    new = np.flatnonzero(found.state == NEW)
    if not len(new):
        return 0
    items = found.planned.items.take(pa.array(new))
    return int(pc.sum(among(items, _items(lake, stage))).as_py() or 0)


def last_attempts(lake: Lake, where: str | None, columns: list[str]) -> pa.Table:
    """The last attempt at each piece of work that ever failed: `attempts` and `columns` of `rejects`."""
    wanted = list(dict.fromkeys(["stage", "work_key", "attempts", *columns]))
    data = lake.dataset("rejects").to_table(columns=wanted, filter=where)
    return last_of(data, ["stage", "work_key"], lambda rows: [rows["attempts"]])


def open_failures(lake: Lake, where: str | None, columns: list[str]) -> pa.Table:
    """Of `last_attempts`, those that failed."""
    last = last_attempts(lake, where, ["error_class", *columns])
    return last.filter(pc.not_equal(last["error_class"], RESOLVED))


def _states(failures: pa.Table, now: int) -> np.ndarray:
    next_attempt = failures["next_attempt_at"]
    final = pc.is_null(next_attempt).to_numpy(zero_copy_only=False)
    due = pc.fill_null(pc.less_equal(next_attempt, now), False).to_numpy(zero_copy_only=False)
    resolved = pc.equal(failures["error_class"], RESOLVED).to_numpy(zero_copy_only=False)
    return np.select([resolved, final, due], [NEW, FAILED, DUE], WAITING).astype(np.int8)


def _items(lake: Lake, stage: str) -> Column:
    if stage in ITEM:
        return lake.column(stage, ITEM[stage])
    if stage == "sources":  # an item of a list is known by where it is; the table, by what was found there
        rows = lake.dataset(stage).to_table(columns=["kind", "uri", "name"])
        texts = (rows[name].to_pylist() for name in rows.column_names)
        return pa.array([stable_id("item", *row) for row in zip(*texts, strict=True)], pa.string())
    return pa.array([stage] if lake.dataset(stage).count_rows() else [], pa.string())  # the whole table is one item
