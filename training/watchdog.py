"""Name the process that is missing when a collective operation hangs.

A collective operation that times out does not say which process was missing. So each process has a watchdog thread
that measures the time since the last progress of training. Shortly before the time-out, the thread writes what its
process is doing to the key-value store of the process group, and reads the entries of the others: a process that is
stopped, or whose machine is lost, has no entry.
"""

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch.distributed as dist

from opendimo.training.parallel import World

logger = logging.getLogger(__name__)

ALARM, GRACE = 0.8, 0.1
"""Shares of the time-out: time without progress after which a process writes its entry; time until it reads those of
the others."""


class Watchdog:
    """Monitors the progress of this process in a thread; does nothing in a run of one process."""

    def __init__(self, world: World) -> None:
        self._world, self._seconds = world, world.timeout
        self._step, self._doing, self._since = 0, "loading", time.monotonic()
        self._ended = threading.Event()
        self._finding: str | None = None
        if world.size > 1:
            threading.Thread(target=self._watch, name="watchdog", daemon=True).start()

    def at(self, step: int, doing: str) -> None:
        """Report progress: from now on this process is `doing` something in a step, which is equal in all processes."""
        self._step, self._doing, self._since = step, f"{doing} step {step}", time.monotonic()

    @contextmanager
    def watching(self) -> Iterator[None]:
        """End the thread after the context; an error of a collective operation then names who was missing.

        Raises `RuntimeError` in its place.
        """
        try:
            yield
        except RuntimeError as error:
            if self._finding is None:
                raise
            raise RuntimeError(f"{self._finding} ({error})") from error
        finally:
            self._ended.set()

    def _watch(self) -> None:
        store = dist.distributed_c10d._get_default_store()
        while not self._ended.wait(min(1.0, self._seconds / 20)):
            since = self._since
            if time.monotonic() - since < ALARM * self._seconds:
                continue
            name = f"watchdog/{self._step}"
            store.set(f"{name}/{self._world.rank}", self._doing)
            if self._ended.wait(GRACE * self._seconds) or self._since != since:
                continue
            self._finding = self._read(name)
            logger.error("%s", self._finding)
            return

    def _read(self, name: str) -> str:
        """Return which processes have no entry, and what the others are doing."""
        store, found = dist.distributed_c10d._get_default_store(), dict[int, str]()
        for rank in range(self._world.size):
            if store.check([f"{name}/{rank}"]):
                found[rank] = store.get(f"{name}/{rank}").decode()
        missing = [str(rank) for rank in range(self._world.size) if rank not in found]
        doing = "; ".join(f"process {rank}: {what}" for rank, what in found.items())
        if not missing:
            return f"no process went on for {ALARM * self._seconds:.0f} s: {doing}"
        return f"process {', '.join(missing)} does not answer, the others wait: {doing}"
