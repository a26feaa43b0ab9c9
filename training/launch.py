"""Run training in a Ray worker: poll its progress, and restart it from the newest checkpoint if it dies."""

import logging
import os
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

from opendimo.storage_schemas.log_buffer import LogBuffer
from opendimo.training.config import TrainConfig
from opendimo.training.result import TrainResult

logger = logging.getLogger(__name__)

POLL_SECONDS = 0.5
MAX_RESTARTS = 2  # of a worker that died

OnProgress = Callable[[int, float | None, list[tuple[int, str]]], None]
"""Called with the steps done since the last call, the newest loss, and the worker's log lines (level, text)."""


class Launcher:
    """Train in one Ray actor, which gets a GPU if the cluster has one. Ray must be running.

    Use it as a context manager. The actor starts on the first call of `train`, is reused for later stages (starting it
    takes longer than a short stage), and is replaced if it dies.
    """

    def __init__(self) -> None:
        self._actor: Any = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def train(
        self,
        lake: str,
        release: str,
        config: TrainConfig,
        out: str | Path,
        *,
        until_stage: int | None = None,
        resume: bool = True,
        on_progress: OnProgress = lambda *_: None,
    ) -> TrainResult:
        """Run `training.trainer.train` on release NAME@VERSION of `lake`.

        Raises the exceptions of that function, and `RayActorError` if the actor dies more than `MAX_RESTARTS` times.
        """
        from ray.exceptions import RayActorError, RayTaskError

        for restarts in range(MAX_RESTARTS + 1):
            self._actor = self._actor or _start_worker()
            try:
                running = self._actor.train.remote(lake, release, config, str(out), until_stage, resume or restarts > 0)
                return _wait(self._actor, running, on_progress)
            except RayTaskError as error:
                if not isinstance(error.cause, ValueError):  # memory or the GPU may be in a bad state
                    self._stop()
                raise error.cause from None
            except RayActorError:
                self._stop()
                if restarts == MAX_RESTARTS:
                    raise
                message = "the training worker died: starting another one from the newest checkpoint"
                on_progress(0, None, [(logging.WARNING, message)])
            except BaseException:  # the caller no longer waits for the result
                self._stop()
                raise
        raise AssertionError("unreachable")

    def _stop(self) -> None:
        import ray

        if self._actor is not None:
            ray.kill(self._actor)
            self._actor = None


def _start_worker() -> Any:
    import ray

    gpus = min(1, int(ray.cluster_resources().get("GPU", 0)))
    # one thread trains, the other serves `take_progress`
    return ray.remote(Worker).options(num_cpus=1, num_gpus=gpus, max_concurrency=2).remote()


def _wait(actor: Any, running: Any, on_progress: OnProgress) -> TrainResult:
    """Report progress until the training call `running` ends, and return its result."""
    import ray

    while not ray.wait([running], timeout=POLL_SECONDS)[0]:
        on_progress(*ray.get(actor.take_progress.remote()))
    on_progress(*ray.get(actor.take_progress.remote()))  # also after a failure: the last log lines explain it
    result: TrainResult = ray.get(running)
    return result


class Worker:
    """Ray actor that trains; `take_progress` can be called while `train` runs."""

    def __init__(self) -> None:
        self._lines = LogBuffer()
        logging.getLogger("opendimo.training").addHandler(self._lines)
        logging.getLogger("opendimo.training").setLevel(logging.INFO)
        self._steps, self._loss = 0, None

    def train(
        self, lake: str, release: str, config: TrainConfig, out: str, until_stage: int | None, resume: bool
    ) -> TrainResult:
        """Open the release and train on it."""
        from opendimo.storage_schemas.releases.release import open_release
        from opendimo.training.trainer import train

        def progress(_done: int, _total: int, record: dict[str, Any]) -> None:
            if "event" not in record:
                self._steps, self._loss = self._steps + 1, record["loss"]

        logger.info("training in process %d on %s", os.getpid(), platform.node())
        opened = open_release(lake, release)
        return train(opened, config, out, resume=resume, until_stage=until_stage, on_progress=progress)

    def take_progress(self) -> tuple[int, float | None, list[tuple[int, str]]]:
        """Return the steps since the last call, the newest loss, and the log lines since the last call."""
        steps, self._steps = self._steps, 0
        return steps, self._loss, self._lines.take()
