"""The contract of a pipeline stage: a plain object that turns pieces of work into rows or rejects.

A stage knows neither Ray nor Prefect: a test calls `setup()` and `run()` directly.
"""

import traceback
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Protocol

PAUSED = "paused"
"""Reason of a failure without a real attempt, because the host asked us to pause: the attempt does not count."""


@dataclass(frozen=True)
class Work:
    """One piece of work.

    `key`: its identity (see `storage_schemas.ids.work_key`). `item_id` and `name`: the item to process. `payload`:
    further inputs, a frozen dataclass of the stage with small values, ids and paths, never frames.
    """

    key: str
    item_id: str
    name: str
    payload: Any = None


@dataclass(frozen=True)
class Reject:
    """A failed piece of work.

    `error_class`: result of `classify`: transient, permanent, data or bug. `reason` and `not_before`: from the
    `Failure`, if it is one.
    """

    key: str
    item_id: str
    name: str
    error_class: str
    message: str
    traceback: str | None = None
    reason: str | None = None
    not_before: int | None = None

    @property
    def untried(self) -> bool:
        """Whether no attempt was made because the host asked us to pause; such an attempt does not count."""
        return self.reason == PAUSED


@dataclass
class Outcome:
    """Result of a batch: rows by table, the keys of completed work, and the rejects.

    Rows are dicts of column values (arrays as numpy float32). Each row must carry its `work_key` (`add` sets it);
    `run_id` is filled in when the rows are stored. `times`: begin and end of each piece of work that was timed, in
    nanoseconds since 1970.
    """

    rows: dict[str, list[dict[str, Any]]] = field(default_factory=lambda: defaultdict(list))
    done: list[str] = field(default_factory=list)
    rejects: list[Reject] = field(default_factory=list)
    times: dict[str, tuple[int, int]] = field(default_factory=dict)

    def add(self, work: Work, rows: dict[str, list[dict[str, Any]]]) -> None:
        """Add the rows of one completed piece of work and mark it as done."""
        for table, table_rows in rows.items():
            self.rows[table].extend({**row, "work_key": work.key} for row in table_rows)
        self.done.append(work.key)

    def merge(self, other: "Outcome") -> None:
        """Add the outcome of another batch."""
        for table, rows in other.rows.items():
            self.rows[table].extend(rows)
        self.done.extend(other.done)
        self.rejects.extend(other.rejects)
        self.times.update(other.times)

    def check(self, batch: Iterable[Work]) -> None:
        """Raise `AssertionError` unless every piece of work is done or rejected exactly once."""
        expected = sorted(w.key for w in batch)
        answered = sorted([*self.done, *(r.key for r in self.rejects)])
        if expected != answered:
            raise AssertionError(f"a stage completed or rejected {len(answered)} of {len(expected)} pieces of work")


class Failure(Exception):
    """Base class of expected failures.

    `message` is for people: what is wrong, where, what to do. `reason` is one word for programs (blocked, gone,
    too_large, ...).
    """

    def __init__(self, message: str = "", *, reason: str | None = None) -> None:
        super().__init__(message)
        self.reason = reason


class DataError(Failure, ValueError):
    """The input is invalid (corrupt, empty, wrong format, missing calibration); retrying will not help."""


class TransientError(Failure, RuntimeError):
    """The environment failed (network, a full disk); retrying may help.

    `not_before`: earliest time to retry, in nanoseconds since 1970.
    """

    def __init__(self, message: str = "", *, reason: str | None = None, not_before: int | None = None) -> None:
        super().__init__(message, reason=reason)
        self.not_before = not_before

    @property
    def untried(self) -> bool:
        """Whether no attempt was made because the host asked us to pause; such a failure does not count."""
        return self.reason == PAUSED


class PermanentError(Failure, RuntimeError):
    """The input is not available (gone, forbidden); retrying will not help."""


def classify(error: Exception) -> str:
    """Return the `error_class` of an exception."""
    match error:
        case DataError():
            return "data"
        case TransientError() | TimeoutError() | ConnectionError():
            return "transient"
        case PermanentError() | FileNotFoundError() | PermissionError():
            return "permanent"
        case OSError():  # a full disk, a lost mount
            return "transient"
        case _:
            return "bug"


def reject(work: Work, error: Exception) -> Reject:
    """Return the reject of one piece of work, with a traceback if the error is a bug."""
    kind = classify(error)
    trace = "".join(traceback.format_exception(error))[-8000:] if kind == "bug" else None
    message = str(error) if kind != "bug" else f"{type(error).__name__}: {error}"
    reason = error.reason if isinstance(error, Failure) else None
    wait = error.not_before if isinstance(error, TransientError) else None
    return Reject(work.key, work.item_id, work.name, kind, message[:2000], trace, reason, wait)


@dataclass(frozen=True)
class Needs:
    """Resources of one worker of a stage.

    `shard`: largest number of pieces of work whose results it holds in memory before it stages them; if it dies, these
    are processed again. `timeout_s`: time limit of one piece of work, in seconds, far above its normal duration.
    """

    cpus: float = 1.0
    gpus: float = 0.0
    memory_gb: float = 2.0
    shard: int = 256
    timeout_s: float = 7200.0


class Stage(Protocol):
    """A pipeline stage.

    Every work key hashes `config` (a frozen dataclass), `version` (increase it when results change) and `weights` (a
    hash of the model weights, or empty).
    """

    name: str
    version: str

    @property
    def weights(self) -> str: ...

    @property
    def needs(self) -> Needs: ...

    @property
    def config(self) -> Any: ...

    def setup(self) -> None:
        """Load models. Called once per worker."""

    def run(self, batch: list[Work]) -> Outcome:
        """Turn every piece of work into rows or a reject. Must not raise for a single bad input."""


def run_each(batch: list[Work], make: Callable[[Work], dict[str, list[dict[str, Any]]]]) -> Outcome:
    """Run `make` on each piece of work separately; turn exceptions into rejects."""
    outcome = Outcome()
    for work in batch:
        try:
            rows = make(work)
        except Exception as error:
            outcome.rejects.append(reject(work, error))
        else:
            outcome.add(work, rows)
    return outcome
