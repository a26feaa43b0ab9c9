"""Determine the status of each planned piece of work: new, done, failed, waiting for a retry, or due for it."""

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from opendimo.pipelines.engine.columns import Column, among, last_of
from opendimo.pipelines.engine.planned import Planned
from opendimo.storage_schemas.ids import stable_id
from opendimo.storage_schemas.lake.lake import Lake

STAGES = ("sources", "clips", "duplicates", "hands", "rigs", "poses", "captions", "latents", "pairs")
"""All stages, in order; each is named after the table that it fills."""

STATES = ("new", "done", "failed", "waiting", "due")
NEW, DONE, FAILED, WAITING, DUE = range(len(STATES))
RESOLVED = "resolved"
"""`error_class` of a successful attempt after failed ones: the work no longer counts as failed."""

ITEM = {
    "clips": "source_id",
    "duplicates": "clip_id",
    "hands": "clip_id",
    "rigs": "capture_id",
    "poses": "clip_id",
    "captions": "clip_id",
    "latents": "clip_id",
}
"""The column of each stage's table that holds the `item_id` of its work."""


@dataclass(frozen=True)
class Account:
    """Counts of a stage's inputs by result: `inputs = done + filtered + rejected`."""

    stage: str
    inputs: int
    done: int
    filtered: dict[str, int] = field(default_factory=dict)
    rejected: dict[str, int] = field(default_factory=dict)

    def check(self) -> "Account":
        """Return self. Raises `AssertionError` if the counts do not add up to `inputs`."""
        total = self.done + sum(self.filtered.values()) + sum(self.rejected.values())
        if total != self.inputs:
            raise AssertionError(f"{self.stage}: {self.inputs} inputs, but {total} accounted for")
        return self


@dataclass(frozen=True)
class WorkStatus:
    """Status of each piece of work of a plan.

    `state`: index into `STATES`. `failure`: row of its last attempt in `failures`, -1 if none failed.
    """

    planned: Planned
    state: np.ndarray
    failure: np.ndarray
    failures: pa.Table

    @cached_property
    def left(self) -> np.ndarray:
        """Indices of the works that a run would process now."""
        return np.flatnonzero((self.state == NEW) | (self.state == DUE))

    def count(self, state: int) -> int:
        """Count the works in this state."""
        return int((self.state == state).sum())

    def attempts(self, indices: np.ndarray) -> list[int]:
        """Return the number of earlier attempts at the works with these indices."""
        counts = self.failures["attempts"].to_numpy()
        return [int(counts[k]) if k >= 0 else 0 for k in self.failure[indices]]

    def rejected(self) -> dict[str, int]:
        """Count the work items that failed and are not done, also those that wait for a retry, by `error_class`."""
        failed = self.failure[(self.state != DONE) & (self.failure >= 0)]
        counts = self.failures["error_class"].take(pa.array(failed)).value_counts().to_pylist()
        return {entry["values"]: entry["counts"] for entry in counts if entry["values"] != RESOLVED}


def work_status(lake: Lake, stage: str, planned: Planned, now: int) -> WorkStatus:
    """Return the status of a plan's work at `now` (nanoseconds since 1970).

    It joins the work keys with the stage's table and its rejects.
    """
    failures = last_attempts(lake, f"stage = '{stage}'", ["work_key", "error_class", "next_attempt_at"])
    failure = pc.fill_null(pc.index_in(planned.keys, value_set=failures["work_key"]), -1).to_numpy()
    by_failure = np.append(_failure_states(failures, now), NEW)  # -1 is the last one
    done = among(planned.keys, lake.column(stage, "work_key")).to_numpy(zero_copy_only=False)
    return WorkStatus(planned, np.where(done, DONE, by_failure[failure]).astype(np.int8), failure, failures)


def without_result(lake: Lake, stage: str) -> dict[str, Column]:
    """Return, by reason, the keys of works that were done but gave nothing to train on, so that they count as filtered.

    `no_valid_frame`: no pose label of the work has a frame in which the body is valid.
    """
    if stage != "poses":
        return {}
    # a label without a valid frame has no weight, so the lists of the others need not be read
    labels = lake.dataset("poses").to_table(columns=["work_key", "valid"], filter="weight = 0")
    lists = labels["valid"].combine_chunks()
    valid = pc.unique(pc.list_parent_indices(lists).filter(pc.list_flatten(lists)))
    has_valid = pc.is_in(pa.array(np.arange(len(labels))), value_set=valid)
    weighted = lake.dataset("poses").to_table(columns=["work_key"], filter="weight > 0 or weight is null")
    usable = pa.chunked_array([*weighted["work_key"].chunks, *labels["work_key"].filter(has_valid).chunks], pa.string())
    keys = pc.unique(labels["work_key"].filter(pc.invert(has_valid)))
    return {"no_valid_frame": keys.filter(pc.invert(pc.is_in(keys, value_set=usable)))}


def stale(lake: Lake, stage: str, status: WorkStatus) -> int:
    """Count the new works whose item has rows under another work key: of another version, config or input."""
    new = np.flatnonzero(status.state == NEW)
    if not len(new):
        return 0
    items = status.planned.items.take(pa.array(new))
    return int(pc.sum(among(items, _stored_items(lake, stage))).as_py() or 0)


def last_attempts(lake: Lake, where: str | None, columns: list[str]) -> pa.Table:
    """Return the last attempt at each piece of work that ever failed: `attempts` and `columns` of `rejects`."""
    selected_columns = list(dict.fromkeys(["stage", "work_key", "attempts", *columns]))
    data = lake.dataset("rejects").to_table(columns=selected_columns, filter=where)
    return last_of(data, ["stage", "work_key"], lambda rows: [rows["attempts"]])


def open_failures(lake: Lake, where: str | None, columns: list[str]) -> pa.Table:
    """Return those of `last_attempts` that failed."""
    last = last_attempts(lake, where, ["error_class", *columns])
    return last.filter(pc.not_equal(last["error_class"], RESOLVED))


def _failure_states(failures: pa.Table, now: int) -> np.ndarray:
    next_attempt = failures["next_attempt_at"]
    final = pc.is_null(next_attempt).to_numpy(zero_copy_only=False)
    due = pc.fill_null(pc.less_equal(next_attempt, now), False).to_numpy(zero_copy_only=False)
    resolved = pc.equal(failures["error_class"], RESOLVED).to_numpy(zero_copy_only=False)
    return np.select([resolved, final, due], [NEW, FAILED, DUE], WAITING).astype(np.int8)


def _stored_items(lake: Lake, stage: str) -> Column:
    if stage in ITEM:
        return lake.column(stage, ITEM[stage])
    if stage == "sources":  # planned items are identified by kind, uri and name; the table's ids hash the content
        rows = lake.dataset(stage).to_table(columns=["kind", "uri", "name"])
        texts = (rows[name].to_pylist() for name in rows.column_names)
        return pa.array([stable_id("item", *row) for row in zip(*texts, strict=True)], pa.string())
    return pa.array([stage] if lake.dataset(stage).count_rows() else [], pa.string())  # the whole table is one item
