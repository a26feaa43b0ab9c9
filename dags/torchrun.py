"""Train in processes that `torchrun` started, without Prefect and Ray.

torchrun --nproc-per-node 8 --no-python dimo train --release dance@1 --lake /data/lake ...
"""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

from opendimo.dags.progress import step
from opendimo.storage_schemas.releases.release import open_release
from opendimo.training.config import TrainConfig
from opendimo.training.result import TrainingStopped


def is_started() -> bool:
    """Return whether this process is one of a group that `torchrun` started."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def train(lake: str, release: str, config: TrainConfig, out: str, resume: bool) -> None:
    """Train all stages in this process and those started with it; the first one shows the progress.

    SIGTERM and SIGINT make all processes save a checkpoint. Raises the exceptions of `training.trainer.train`;
    `TrainingStopped` has the number of the signal that was received first.
    """
    from opendimo.training.trainer import train as train_model

    shown = step(f"train {release}", config.schedule.steps) if os.environ["RANK"] == "0" else nullcontext()
    with stop_signals() as received, shown as bar:

        def report(done: int, _total: int, record: dict[str, Any]) -> None:  # called in the first process only
            if bar is not None:
                bar.reach("steps", done)
                if "event" not in record:
                    bar.note(f"loss {record['loss']:.3f}")

        opened = open_release(lake, release)
        try:
            train_model(opened, config, out, resume=resume, on_progress=report, should_stop=lambda: bool(received))
        except TrainingStopped as stopped:
            if received:
                stopped.number = received[0]
            raise


@contextmanager
def stop_signals() -> Iterator[list[int]]:
    """Yield a list of the SIGTERM and SIGINT signals received in this context, which do not end the process."""
    received: list[int] = []
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = {number: signal.signal(number, lambda got, _: received.append(got)) for number in numbers}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
