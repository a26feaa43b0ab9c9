"""What a training leaves behind. Without torch: also who only waits for it reads this."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class TrainResult:
    """Where training stands: `pipeline` is there once the last stage is done."""

    steps_done: int
    steps_total: int
    checkpoint: Path
    metrics: Path
    pipeline: Path | None
