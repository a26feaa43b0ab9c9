"""Spikes of the gradient norm: steps whose updates are skipped."""

import json
import math
from collections import deque
from collections.abc import Iterable
from pathlib import Path
from statistics import median


class Spikes:
    """Recognise steps whose gradient norm is more than `factor` times the median of recent steps of the stage.

    `factor`: None: no step is one. The first `LEAST` steps of a stage never are.
    """

    LEAST, RECENT = 50, 200

    def __init__(self, factor: float | None, norms: Iterable[float] = ()) -> None:
        """`norms`: gradient norms of earlier steps of the stage."""
        self._factor, self._norms = factor, deque(norms, self.RECENT)

    def clear(self) -> None:
        """Forget all steps: a stage begins."""
        self._norms.clear()

    def is_spike(self, norm: float) -> bool:
        """Return whether a step is a spike, and remember its norm."""
        usual = median(self._norms) if len(self._norms) >= self.LEAST else math.inf
        self._norms.append(norm)
        return self._factor is not None and norm > self._factor * usual


def stage_norms(out: Path, length: int, start: int) -> list[float]:
    """Return the gradient norms of all steps after step `start` in the first `length` bytes of OUT/metrics.jsonl."""
    if not length:
        return []
    with (out / "metrics.jsonl").open("rb") as stream:
        records = [json.loads(line) for line in stream.read(length).splitlines()]
    return [record["grad_norm"] for record in records if "event" not in record and record["step"] > start]
