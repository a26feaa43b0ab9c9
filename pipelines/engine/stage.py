"""The contract of a pipeline stage: a plain object that turns pieces of work into rows or rejects.

A stage knows neither Ray nor Prefect: a test calls `setup()` and `run()` directly.
"""

import traceback
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Protocol

PAUSED = "paused"
"""The reason of a failure of which nobody was asked: its attempt does not count against the next one."""


@dataclass(frozen=True)
class Work:
    """One piece of work: `key` is its identity (see `storage_schemas.ids.work_key`), `item_id` and `name` say what
    it is about, `payload` holds what the stage needs: small values, ids and paths, never frames."""

    key: str
    item_id: str
    name: str
    payload: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Reject:
    """A failed piece of work. `error_class` is what `classify` says: transient, permanent, data or bug; `reason` and
    `not_before` what a `Failure` says."""

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
        """Whether nobody was asked, so that this attempt does not count."""
        return self.reason == PAUSED


@dataclass
class Outcome:
    """What a stage made of a batch: rows by table, the keys that are done, and the rejects.

    Rows are dicts of column values (arrays as numpy float32); `work_key` and `run_id` are filled in when the
    rows are stored, except that a row must carry its own `work_key`. `times`: when each piece of work began and
    ended, nanoseconds since 1970, where somebody looked at the clock.
    """

    rows: dict[str, list[dict[str, Any]]] = field(default_factory=lambda: defaultdict(list))
    done: list[str] = field(default_factory=list)
    rejects: list[Reject] = field(default_factory=list)
    times: dict[str, tuple[int, int]] = field(default_factory=dict)

    def add(self, work: Work, rows: dict[str, list[dict[str, Any]]]) -> None:
        """Record the rows made of one piece of work, which is done."""
        for table, table_rows in rows.items():
            self.rows[table].extend({**row, "work_key": work.key} for row in table_rows)
        self.done.append(work.key)

    def merge(self, other: "Outcome") -> None:
        """Take in what was made of another batch."""
        for table, rows in other.rows.items():
            self.rows[table].extend(rows)
        self.done.extend(other.done)
        self.rejects.extend(other.rejects)
        self.times.update(other.times)

    def check(self, batch: Iterable[Work]) -> None:
        """Raise `AssertionError` unless every piece of work is done or rejected, exactly once."""
        expected = sorted(w.key for w in batch)
        answered = sorted([*self.done, *(r.key for r in self.rejects)])
        if expected != answered:
            raise AssertionError(f"a stage answered {len(answered)} of {len(expected)} pieces of work")


class Failure(Exception):
    """A failure that is known by name: `message` for people (what, where, what to do), `reason` one word for machines
    (blocked, gone, too_large, ...)."""

    def __init__(self, message: str = "", *, reason: str | None = None) -> None:
        super().__init__(message)
        self.reason = reason


class DataError(Failure, ValueError):
    """The input is at fault (corrupt, empty, wrong format, missing calibration): trying again will not help."""


class TransientError(Failure, RuntimeError):
    """The world is at fault (network, a full disk): trying again may help, but not `not_before` (nanoseconds since
    1970)."""

    def __init__(self, message: str = "", *, reason: str | None = None, not_before: int | None = None) -> None:
        super().__init__(message, reason=reason)
        self.not_before = not_before

    @property
    def untried(self) -> bool:
        """Whether nobody was asked, so that this attempt does not count."""
        return self.reason == PAUSED


class PermanentError(Failure, RuntimeError):
    """The input cannot be had (gone, forbidden): trying again will not help."""


def classify(error: Exception) -> str:
    """The reject class of an exception."""
    match error:
        case DataError():
            return "data"
        case TransientError() | TimeoutError() | ConnectionError():
            return "transient"
        case PermanentError() | FileNotFoundError() | PermissionError():
            return "permanent"
        case OSError():  # a full disk, a mount that went away
            return "transient"
        case _:
            return "bug"


def reject(work: Work, error: Exception) -> Reject:
    """The reject of one piece of work, with a traceback where the error is ours."""
    kind = classify(error)
    trace = "".join(traceback.format_exception(error))[-8000:] if kind == "bug" else None
    message = str(error) if kind != "bug" else f"{type(error).__name__}: {error}"
    reason = error.reason if isinstance(error, Failure) else None
    wait = error.not_before if isinstance(error, TransientError) else None
    return Reject(work.key, work.item_id, work.name, kind, message[:2000], trace, reason, wait)


@dataclass(frozen=True)
class Needs:
    """What one worker of a stage occupies; `shard`: pieces of work that it holds in memory at most before it stages
    them, and does again if it dies; `seconds`: longest that one of them may take, far above what is normal."""

    cpus: float = 1.0
    gpus: float = 0.0
    memory_gb: float = 2.0
    shard: int = 256
    seconds: float = 7200.0


class Stage(Protocol):
    """A pipeline stage. `config` is a frozen dataclass and part of every work key, as are `version` (raise it when
    answers change) and `weights` (a hash of the model weights, or empty)."""

    name: str
    version: str

    @property
    def weights(self) -> str: ...

    @property
    def needs(self) -> Needs: ...

    @property
    def config(self) -> Any: ...

    def setup(self) -> None:
        """Load models; called once per worker."""

    def run(self, batch: list[Work]) -> Outcome:
        """Turn every piece of work into rows or a reject; never raise for one bad input."""


def run_each(batch: list[Work], make: Callable[[Work], dict[str, list[dict[str, Any]]]]) -> Outcome:
    """Run `make` on each piece of work by itself, turning exceptions into rejects."""
    outcome = Outcome()
    for work in batch:
        try:
            rows = make(work)
        except Exception as error:
            outcome.rejects.append(reject(work, error))
        else:
            outcome.add(work, rows)
    return outcome
