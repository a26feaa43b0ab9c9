"""Save checkpoints in the background: OUT/checkpoints/step-N, written while training goes on.

Training waits only until weights and optimizer state are copied to the memory of the CPU. A thread then writes them to
a hidden folder, flushes its files to disk and renames it, so that a process that is killed at any moment leaves the
checkpoint before. Threads of several processes are joined by a group of their own. If the disk is full, the thread
tries again until there is space, while training goes on to the next checkpoint.
"""

import json
import logging
import os
import shutil
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.staging import BlockingAsyncStager

from opendimo.model.dimo import DiMo
from opendimo.storage_schemas.lake.files import sync_folder
from opendimo.training.averaging import Average
from opendimo.training.checkpoints import prune
from opendimo.training.full_disk import is_full
from opendimo.training.optimizer import PartsOptimizer, write_state
from opendimo.training.parallel import World, whole_copy

logger = logging.getLogger(__name__)

PATIENCE, RETRY, REPEAT = 3600.0, 15.0, 600.0
"""Seconds: for which a checkpoint waits for space on a full disk; between two tries; between two lines in the log."""


class Saver:
    """Saves the checkpoints of a run, one at a time. Every process of the run calls the methods alike.

    `stage_ends`: steps whose checkpoints are kept. `should_stop`: asked while a checkpoint is waited for; if it is
    true, nothing waits for space on a full disk any longer.
    """

    def __init__(
        self, out: Path, world: World, stage_ends: set[int], should_stop: Callable[[], bool] = lambda: False
    ) -> None:
        self._should_stop, self._hurry = should_stop, threading.Event()
        self._folder, self._out, self._stage_ends = out / "checkpoints", out, stage_ends
        self._world, self._thread_world = world, world.with_own_group()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._running: Future[None] | None = None

    def save(
        self,
        state: dict[str, Any],
        model: DiMo,
        optimizer: PartsOptimizer,
        average: Average | None,
        finish: Callable[[], None] = lambda: None,
    ) -> None:
        """Copy all that a checkpoint holds, and begin to write it. `state` becomes its `state.json`.

        `finish` is called in the thread of the first process before the checkpoint counts; if it raises, it does not.
        Waits for the checkpoint before. Raises the `OSError` of `wait`.
        """
        self.wait()
        moments = BlockingAsyncStager().stage(optimizer.state())
        models = {"model": whole_copy(model, self._world)}
        if average is not None:
            with average.applied():
                models["ema"] = whole_copy(model, self._world)
        attempt = partial(self._try, state, moments, models, finish)
        self._running = self._thread.submit(self._write, state["step"], attempt)

    @property
    def failed(self) -> bool:
        """Whether this process knows that the checkpoint that it wrote last could not be written."""
        return self._running is not None and self._running.done() and self._running.exception() is not None

    def wait(self) -> None:
        """Wait until no checkpoint is being written. Raises `OSError` if one could not be written, in every process."""
        running, self._running = self._running, None
        if running is None:
            return
        try:
            while not wait_for([running], timeout=1).done:
                if self._should_stop():
                    self._hurry.set()
            running.result()
        except (Exception, CheckpointException) as error:  # the second one is no Exception
            raise OSError(f"a checkpoint could not be written, the one before is kept: {_cause(error)}") from error

    def close(self) -> None:
        """Wait for the thread, but not for space on a full disk, and end it; an error is logged."""
        self._hurry.set()
        try:
            self.wait()
        except OSError as error:
            logger.error("%s", error)
        self._thread.shutdown()
        self._thread_world.destroy_own_group()

    def _write(self, step: int, attempt: Callable[[], None]) -> None:
        """Write the checkpoint of a step by `attempt`, again and again as long as the disk is full."""
        space = Space(self._folder, f"the checkpoint of step {step}", self._hurry)
        while True:
            try:
                return attempt()
            except (Exception, CheckpointException) as error:  # the second one is no Exception
                if not is_full(error) or not self._thread_world.on_first(space.wait):
                    raise

    def _try(
        self,
        state: dict[str, Any],
        moments: dict[str, Tensor],
        models: dict[str, DiMo | None],
        finish: Callable[[], None],
    ) -> None:
        final = self._folder / f"step-{state['step']:06d}"
        part = final.with_name(f".{final.name}.part")

        def begin() -> None:
            remove_parts(self._folder)  # of processes that were killed
            part.mkdir(parents=True)

        def complete() -> None:
            for name, model in models.items():
                assert model is not None  # they are in the first process
                model.save(part / name)
            (part / "state.json").write_text(json.dumps(state, indent=1, sort_keys=True))
            _sync(part)
            finish()
            shutil.rmtree(final, ignore_errors=True)
            os.replace(part, final)
            sync_folder(final.parent)
            prune(self._out, self._stage_ends)

        self._thread_world.on_first(begin)
        write_state(moments, part / "optimizer", self._thread_world.group)
        self._thread_world.on_first(complete)


class Space:
    """Waits for space in a folder on a full disk. `what`: what is to be written; `hurry`: ends the waiting."""

    def __init__(self, folder: Path, what: str, hurry: threading.Event) -> None:
        self._folder, self._what, self._hurry = folder, what, hurry
        self._until, self._next_line = time.monotonic() + PATIENCE, 0.0

    def wait(self) -> bool:
        """Remove what was written in part, wait some seconds, and return whether to try again."""
        remove_parts(self._folder)
        now = time.monotonic()
        if now >= self._until or self._hurry.is_set():
            return False
        if now >= self._next_line:
            self._next_line = now + REPEAT
            logger.warning(
                "%s waits for space: the disk of %s is full (%.1f GB free). Training goes on to the next checkpoint; "
                "free space within %.0f minutes",
                self._what,
                self._folder,
                shutil.disk_usage(self._folder).free / 1e9,
                (self._until - now) / 60,
            )
        return not self._hurry.wait(RETRY)


def remove_parts(folder: Path) -> None:
    """Remove checkpoints that are incomplete."""
    for left in folder.glob(".step-*.part"):
        shutil.rmtree(left)


def _cause(error: BaseException) -> str:
    """Return what failed, also in another process."""
    if isinstance(error, CheckpointException):
        return "; ".join(f"process {rank}: {failure[0]}" for rank, failure in sorted(error.failures.items()))
    return str(error) or type(error).__name__


def _sync(folder: Path) -> None:
    """Flush all files and folders below `folder` to disk."""
    for path in folder.rglob("*"):
        if path.is_dir():
            sync_folder(path)
        else:
            with open(path, "rb") as stream:
                os.fsync(stream.fileno())
    sync_folder(folder)
