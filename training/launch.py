"""Run training on a Ray cluster: poll its progress, and restart it from the newest checkpoint if it dies.

One process trains in an actor. Several train by Ray Train, which starts them on the cluster's nodes and joins them.
"""

import logging
import os
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

from opendimo.storage_schemas.log_buffer import LogBuffer
from opendimo.training.config import TrainConfig
from opendimo.training.result import TrainingStopped, TrainResult

logger = logging.getLogger(__name__)

POLL_SECONDS = 0.5
STOP_SECONDS = 60.0
"""Time to finish a step and write a checkpoint when training is stopped."""
MAX_RESTARTS = 2
"""Restarts after the death of a process."""

OnProgress = Callable[[int, float | None, list[tuple[int, str]]], None]
"""Called with the steps done since the last call, the newest loss, and the worker's log lines (level, text)."""
Report = tuple[int, float | None, list[tuple[int, str]]]
"""Arguments of `OnProgress`."""


class Launcher:
    """Train on a Ray cluster, which must be running.

    `processes`: how many train together, each with a GPU if the cluster has any; None: one per GPU, at least one.

    Use it as a context manager. The actor starts on the first call of `train`, is reused for later stages (starting it
    takes longer than a short stage), and is replaced if it dies.
    """

    def __init__(self, processes: int | None = None) -> None:
        self._processes = processes
        self._actor: Any = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._kill()

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

        If the caller is interrupted, training saves a checkpoint, for which it has `STOP_SECONDS`. Raises the
        exceptions of that function, `ValueError` if the cluster is too small, and `RayActorError` if the actor dies
        more than `MAX_RESTARTS` times.
        """
        from ray.exceptions import RayActorError, RayTaskError

        for restarts in range(MAX_RESTARTS + 1):
            self._actor = self._actor or self._start()
            running = self._actor.train.remote(lake, release, config, str(out), until_stage, resume or restarts > 0)
            try:
                return _wait(self._actor, running, on_progress)
            except RayTaskError as error:
                if not isinstance(error.cause, ValueError):  # memory or the GPU may be in a bad state
                    self._kill()
                raise error.cause from None
            except RayActorError:
                self._kill()
                if restarts == MAX_RESTARTS:
                    raise
                message = "the training worker died: starting another one from the newest checkpoint"
                on_progress(0, None, [(logging.WARNING, message)])
            except BaseException:  # the caller no longer waits for the result
                self._stop(running)
                raise
        raise AssertionError("unreachable")

    def _start(self) -> Any:
        import ray

        resources = ray.cluster_resources()
        gpus, cpus = int(resources.get("GPU", 0)), int(resources.get("CPU", 0))
        processes = self._processes or max(1, gpus)
        if processes > (gpus or cpus):
            available = f"{gpus} GPUs" if gpus else f"{cpus} CPUs"
            raise ValueError(f"cannot start {processes} processes: the Ray cluster has {available}")
        if processes > 1:
            # one thread runs Ray Train, the others serve `report` and `take_progress`
            return ray.remote(Group).options(num_cpus=0, max_concurrency=4).remote(processes, gpus > 0)
        return ray.remote(Worker).options(num_cpus=1, num_gpus=min(1, gpus), max_concurrency=3).remote()

    def _stop(self, running: Any) -> None:
        """Let training save a checkpoint and end; kill it after `STOP_SECONDS`."""
        import ray
        from ray.exceptions import RayError

        try:
            ray.get(self._actor.stop.remote(), timeout=STOP_SECONDS)
            if not ray.wait([running], timeout=STOP_SECONDS)[0]:
                logger.warning(
                    "training took longer than %g s to stop: it goes on from the last checkpoint", STOP_SECONDS
                )
        except RayError as error:
            logger.warning("training could not save a checkpoint, it goes on from the last one: %s", error)
        finally:
            self._kill()

    def _kill(self) -> None:
        import ray

        if self._actor is not None:
            ray.kill(self._actor)
            self._actor = None


def _wait(actor: Any, running: Any, on_progress: OnProgress) -> TrainResult:
    """Report progress until the training call `running` ends, and return its result."""
    import ray

    while not ray.wait([running], timeout=POLL_SECONDS)[0]:
        on_progress(*ray.get(actor.take_progress.remote()))
    on_progress(*ray.get(actor.take_progress.remote()))  # also after a failure: the last log lines explain it
    result: TrainResult = ray.get(running)
    return result


class _Progress:
    """Progress of a run that a driver fetches, and its request to stop."""

    def __init__(self) -> None:
        self._steps, self._loss, self._stopped = 0, None, False

    def stop(self) -> None:
        """Make training save a checkpoint after the current step, and end."""
        self._stopped = True

    def _count(self, record: dict[str, Any]) -> None:
        if "event" not in record:
            self._steps, self._loss = self._steps + 1, record["loss"]

    def _take(self, lines: list[tuple[int, str]]) -> Report:
        steps, self._steps = self._steps, 0
        return steps, self._loss, lines


class Worker(_Progress):
    """Ray actor that trains; `take_progress` and `stop` can be called while `train` runs."""

    def __init__(self) -> None:
        super().__init__()
        self._lines = _training_log()

    def train(
        self, lake: str, release: str, config: TrainConfig, out: str, until_stage: int | None, resume: bool
    ) -> TrainResult:
        """Open the release and train on it."""
        return _train(
            lake,
            release,
            config,
            out,
            until_stage,
            resume=resume,
            on_record=self._count,
            should_stop=lambda: self._stopped,
        )

    def take_progress(self) -> Report:
        """Return the steps since the last call, the newest loss, and the log lines since the last call."""
        return self._take(self._lines.take())


class Group(_Progress):
    """Ray actor that trains in several processes by Ray Train, with the interface of `Worker`.

    The processes report to it. Ray Train restarts them if one dies, and they resume from the newest checkpoint.
    """

    def __init__(self, processes: int, gpus: bool) -> None:
        super().__init__()
        self._processes, self._gpus = processes, gpus
        self._lines: list[tuple[int, str]] = []
        self._result: TrainResult | None = None
        self._error: Exception | None = None
        self._begun = False

    def train(
        self, lake: str, release: str, config: TrainConfig, out: str, until_stage: int | None, resume: bool
    ) -> TrainResult:
        """Run Ray Train until the stage is done. Raises the exceptions of `training.trainer.train`."""
        import ray
        from ray.train import FailureConfig, RunConfig, ScalingConfig
        from ray.train.torch import TorchConfig, TorchTrainer

        self._result, self._error, self._begun = None, None, resume
        group = ray.get_runtime_context().current_actor
        trainer = TorchTrainer(
            _train_in_group,
            train_loop_config={
                "group": group,
                "lake": lake,
                "release": release,
                "config": config,
                "out": out,
                "until_stage": until_stage,
            },
            torch_config=TorchConfig(timeout_s=int(config.collective_timeout)),
            scaling_config=ScalingConfig(num_workers=self._processes, use_gpu=self._gpus),
            run_config=RunConfig(
                name="ray", storage_path=str(Path(out).resolve()), failure_config=FailureConfig(MAX_RESTARTS)
            ),
        )
        try:
            trainer.fit()
        except Exception:
            if self._error is not None:
                raise self._error from None
            raise
        if self._error is not None:
            raise self._error
        assert self._result is not None
        return self._result

    def begin(self) -> bool:
        """Return whether to resume; called by every process. Raises the error that ended the run before."""
        if self._error is not None:
            raise self._error
        return self._begun

    def report(self, record: dict[str, Any] | None, lines: list[tuple[int, str]]) -> bool:
        """Take a record of metrics and log lines of the first process; return whether training shall stop."""
        self._begun = True
        if record is not None:
            self._count(record)
        self._lines += lines
        return self._stopped

    def end(self, result: TrainResult | None, error: Exception | None) -> None:
        """Take the result of the first process, or the error of any."""
        self._result, self._error = result or self._result, error or self._error

    def take_progress(self) -> Report:
        """Return the steps since the last call, the newest loss, and the log lines since the last call."""
        lines, self._lines = self._lines, []
        return self._take(lines)


def _train_in_group(given: dict[str, Any]) -> None:
    """Train in one process of a group; called by Ray Train."""
    import ray
    import torch.distributed as dist

    group, lines, stopped = given["group"], _training_log(), False
    resume = ray.get(group.begin.remote())
    is_first = dist.get_rank() == 0

    def on_record(record: dict[str, Any]) -> None:
        nonlocal stopped
        stopped = ray.get(group.report.remote(record, lines.take())) if is_first else False

    try:
        arguments = (given[name] for name in ("lake", "release", "config", "out", "until_stage"))
        result = _train(*arguments, resume=resume, on_record=on_record, should_stop=lambda: stopped)
    except (ValueError, FloatingPointError, TrainingStopped) as error:  # another try would end in the same way
        ray.get(group.end.remote(None, error))
        if isinstance(error, TrainingStopped):
            return
        raise
    finally:
        if is_first:
            ray.get(group.report.remote(None, lines.take()))
    if is_first:
        ray.get(group.end.remote(result, None))


def _train(
    lake: str,
    release: str,
    config: TrainConfig,
    out: str,
    until_stage: int | None,
    *,
    resume: bool,
    on_record: Callable[[dict[str, Any]], None],
    should_stop: Callable[[], bool],
) -> TrainResult:
    from opendimo.storage_schemas.releases.release import open_release
    from opendimo.training.trainer import train

    logger.info("training in process %d on %s", os.getpid(), platform.node())
    return train(
        open_release(lake, release),
        config,
        out,
        resume=resume,
        until_stage=until_stage,
        on_progress=lambda _done, _total, record: on_record(record),
        should_stop=should_stop,
    )


def _training_log() -> LogBuffer:
    """Collect the log lines of training in this process."""
    lines, training = LogBuffer(), logging.getLogger("opendimo.training")
    training.addHandler(lines)
    training.setLevel(logging.INFO)
    return lines
