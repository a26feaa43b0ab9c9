"""Result of a training call. Does not import torch, so that the process that waits for a worker can import it."""

import signal
from dataclasses import dataclass
from pathlib import Path


class TrainingStopped(Exception):
    """Training was stopped on request, after it saved a checkpoint. `number`: of the signal that asked for it."""

    number: int = signal.SIGTERM


@dataclass(frozen=True)
class TrainResult:
    """Progress and output paths of a run; `pipeline` is None until the last stage is done."""

    steps_done: int
    steps_total: int
    checkpoint: Path
    metrics: Path
    pipeline: Path | None
