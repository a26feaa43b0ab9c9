"""Training in a Ray worker: the driver follows its progress, and a worker that dies is replaced and resumes."""

import logging
import os
import platform
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

from opendimo.training.config import TrainConfig
from opendimo.training.result import TrainResult

logger = logging.getLogger(__name__)

POLL_SECONDS = 0.5
DEATHS = 2  # how many times a worker may die

OnProgress = Callable[[int, float | None, list[tuple[int, str]]], None]
"""Called with the steps done since the last call, the newest loss, and the worker's log lines (level, text)."""


class Launcher:
    """One Ray actor that trains, with a GPU where the cluster has one. Ray must be running.

    A context manager: the actor is started when first needed, kept from stage to stage, as its start takes longer than
    a short stage, and replaced when it dies.
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
        """`training.trainer.train` on release NAME@VERSION of `lake`.

        Raises what that raises, and `RayActorError` when the actor died too often.
        """
        from ray.exceptions import RayActorError, RayTaskError

        for deaths in range(DEATHS + 1):
            self._actor = self._actor or _started()
            try:
                running = self._actor.train.remote(lake, release, config, str(out), until_stage, resume or deaths > 0)
                return _followed(self._actor, running, on_progress)
            except RayTaskError as error:
                if not isinstance(error.cause, ValueError):  # it may have left memory, or a GPU, in a bad state
                    self._stop()
                raise error.cause from None
            except RayActorError:
                self._stop()
                if deaths == DEATHS:
                    raise
                message = "the training worker died; another resumes from its newest checkpoint"
                on_progress(0, None, [(logging.WARNING, message)])
            except BaseException:  # nobody follows it any more
                self._stop()
                raise
        raise AssertionError("unreachable")

    def _stop(self) -> None:
        import ray

        if self._actor is not None:
            ray.kill(self._actor)
            self._actor = None


def _started() -> Any:
    import ray

    gpus = min(1, int(ray.cluster_resources().get("GPU", 0)))
    # one thread trains, the other answers questions
    return ray.remote(Worker).options(num_cpus=1, num_gpus=gpus, max_concurrency=2).remote()


def _followed(actor: Any, running: Any, on_progress: OnProgress) -> TrainResult:
    """Tell what is new until it is done."""
    import ray

    while not ray.wait([running], timeout=POLL_SECONDS)[0]:
        on_progress(*ray.get(actor.news.remote()))
    on_progress(*ray.get(actor.news.remote()))  # also where it failed: that is what one wants to read
    result: TrainResult = ray.get(running)
    return result


class Worker:
    """Lives in a Ray actor; `news` may be asked while `train` runs."""

    def __init__(self) -> None:
        self._lines = _Lines()
        logging.getLogger("opendimo.training").addHandler(self._lines)
        logging.getLogger("opendimo.training").setLevel(logging.INFO)
        self._steps, self._loss = 0, None

    def train(
        self, lake: str, release: str, config: TrainConfig, out: str, until_stage: int | None, resume: bool
    ) -> TrainResult:
        """Open the release and train."""
        from opendimo.storage_schemas.releases.release import open_release
        from opendimo.training.trainer import train

        def progress(_done: int, _total: int, record: dict[str, Any]) -> None:
            if "event" not in record:
                self._steps, self._loss = self._steps + 1, record["loss"]

        logger.info("training in process %d on %s", os.getpid(), platform.node())
        pinned = open_release(lake, release)
        return train(pinned, config, out, resume=resume, until_stage=until_stage, on_progress=progress)

    def news(self) -> tuple[int, float | None, list[tuple[int, str]]]:
        """Steps since the last call, the newest loss, and the log lines since the last call."""
        steps, self._steps = self._steps, 0
        return steps, self._loss, self._lines.take()


class _Lines(logging.Handler):
    """Keeps the newest log lines until they are fetched."""

    def __init__(self) -> None:
        super().__init__()
        self._kept: deque[tuple[int, str]] = deque(maxlen=1000)

    def emit(self, record: logging.LogRecord) -> None:
        self._kept.append((record.levelno, self.format(record)))

    def take(self) -> list[tuple[int, str]]:
        return [self._kept.popleft() for _ in range(len(self._kept))]
