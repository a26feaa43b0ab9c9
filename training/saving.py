"""Save checkpoints in the background: OUT/checkpoints/step-N, written while training goes on.

Training waits only until weights and optimizer state are copied to the memory of the CPU. A thread then writes them to
a hidden folder, flushes its files to disk and renames it, so that a process that is killed at any moment leaves the
checkpoint before. Threads of several processes are joined by a group of their own.
"""

import json
import logging
import os
import shutil
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.staging import BlockingAsyncStager

from opendimo.model.dimo import DiMo
from opendimo.storage_schemas.lake.files import sync_folder
from opendimo.training.averaging import Average
from opendimo.training.checkpoints import prune
from opendimo.training.optimizer import PartsOptimizer, write_state
from opendimo.training.parallel import World, whole_copy

logger = logging.getLogger(__name__)


class Saver:
    """Saves the checkpoints of a run, one at a time. Every process of the run calls the methods alike.

    `stage_ends`: steps whose checkpoints are kept.
    """

    def __init__(self, out: Path, world: World, stage_ends: set[int]) -> None:
        self._folder, self._out, self._stage_ends = out / "checkpoints", out, stage_ends
        self._world, self._thread_world = world, world.with_own_group()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._running: Future[None] | None = None

    def save(self, state: dict[str, Any], model: DiMo, optimizer: PartsOptimizer, average: Average | None) -> None:
        """Copy all that a checkpoint holds, and begin to write it. `state` becomes its `state.json`.

        Waits for the checkpoint before. Raises the `OSError` of `wait`.
        """
        self.wait()
        moments = BlockingAsyncStager().stage(optimizer.state())
        models = {"model": whole_copy(model, self._world)}
        if average is not None:
            with average.applied():
                models["ema"] = whole_copy(model, self._world)
        self._running = self._thread.submit(self._write, state, moments, models)

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
            running.result()
        except (Exception, CheckpointException) as error:  # the second one is no Exception
            raise OSError(f"a checkpoint could not be written, the one before is kept: {_cause(error)}") from error

    def close(self) -> None:
        """Wait for the thread, and end it; an error is logged."""
        try:
            self.wait()
        except OSError as error:
            logger.error("%s", error)
        self._thread.shutdown()
        self._thread_world.destroy_own_group()

    def _write(self, state: dict[str, Any], moments: dict[str, Tensor], models: dict[str, DiMo | None]) -> None:
        final = self._folder / f"step-{state['step']:06d}"
        part = final.with_name(f".{final.name}.part")

        def begin() -> None:
            for left in self._folder.glob(".step-*.part"):  # of processes that were killed
                shutil.rmtree(left)
            part.mkdir(parents=True)

        def finish() -> None:
            for name, model in models.items():
                assert model is not None  # they are in the first process
                model.save(part / name)
            (part / "state.json").write_text(json.dumps(state, indent=1, sort_keys=True))
            _sync(part)
            shutil.rmtree(final, ignore_errors=True)
            os.replace(part, final)
            sync_folder(final.parent)
            prune(self._out, self._stage_ends)

        self._thread_world.on_first(begin)
        write_state(moments, part / "optimizer", self._thread_world.group)
        self._thread_world.on_first(finish)


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
