"""Run functions in processes that are killed by SIGKILL immediately before a given change of a lake."""

import itertools
import multiprocessing
import os
import signal
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import lance
from lance import optimize
from lance.dataset import MergeInsertBuilder, Tags

from opendimo.storage_schemas.lake import commit, compact, runs
from opendimo.storage_schemas.lake.store import LocalStore, ObjectStore

SPAWN = multiprocessing.get_context("spawn")
SECONDS = 120


class Task:
    """Wrapper of Lance's compaction task, whose native methods cannot be replaced."""

    def __init__(self, native: optimize.CompactionTask) -> None:
        self.native, self.fragments = native, native.fragments

    def execute(self, dataset: lance.LanceDataset) -> optimize.RewriteResult:
        return self.native.execute(dataset)


class Compaction:
    """Wrapper of the part of Lance's `Compaction` that the lake uses."""

    @staticmethod
    def plan(*args: Any) -> SimpleNamespace:
        plan = optimize.Compaction.plan(*args)
        return SimpleNamespace(tasks=[Task(task) for task in plan.tasks], num_tasks=plan.num_tasks)

    @staticmethod
    def commit(*args: Any) -> optimize.CompactionMetrics:
        return optimize.Compaction.commit(*args)


# None of these calls another of them, so each change counts once. Leases are not included: a thread renews them, so
# the time of a renewal differs from run to run.
CHANGES = [
    *((store, name) for store in (LocalStore, ObjectStore) for name in ("write", "create", "delete")),
    (commit, "write_fragments"),
    (runs, "write_fragments"),
    (lance, "write_dataset"),
    *((lance.LanceDataset, name) for name in ("commit", "add_columns", "drop_columns", "delete")),
    (lance.LanceDataset, "cleanup_old_versions"),
    (MergeInsertBuilder, "execute"),
    (Tags, "create"),
    (Tags, "delete"),
    (Task, "execute"),
    (Compaction, "commit"),
]
"""All functions that change a lake."""


def killed(step: int, work: Callable[..., object], *args: object) -> bool:
    """Run `work(*args)` in a process that is killed before its change number `step`, counted from 0.

    Return whether it was killed; if not, it makes at most `step` changes.
    """
    process = SPAWN.Process(target=_until, args=(step, work, args), daemon=True)
    process.start()
    process.join(SECONDS)
    assert process.exitcode in (0, -signal.SIGKILL)
    return process.exitcode != 0


def _until(step: int, work: Callable[..., object], args: tuple[object, ...]) -> None:
    numbers = itertools.count()

    def dying(original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            if next(numbers) >= step:
                os.kill(os.getpid(), signal.SIGKILL)
            return original(*args, **kwargs)

        return call

    compact.Compaction = Compaction  # type: ignore[assignment,misc]
    for owner, name in CHANGES:
        setattr(owner, name, dying(getattr(owner, name)))
    work(*args)
