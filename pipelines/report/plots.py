"""Scales and polylines of the inline SVG plots; the templates draw them."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Point = tuple[float, float]


@dataclass(frozen=True)
class Scale:
    """Maps values in [low, high] to [start, stop] of the drawing; values outside are drawn at the edge."""

    low: float
    high: float
    start: float
    stop: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """Return the position at which `value` is drawn, rounded to a tenth of a unit."""
        low, high, at = (self._place(v) for v in (self.low, self.high, value))
        share = min(1.0, max(0.0, (at - low) / (high - low)))
        return round(self.start + share * (self.stop - self.start), 1)

    def places(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the positions at which many values are drawn."""
        low, high = self._place(self.low), self._place(self.high)
        at = np.log10(np.maximum(values, self.low)) if self.log else values
        share = np.clip((at - low) / (high - low), 0.0, 1.0)
        return np.round(self.start + share * (self.stop - self.start), 1)

    def ticks(self, about: int = 4) -> list[float]:
        """Return round tick values inside the range: powers of ten on a log scale, else steps of 1, 2 or 5."""
        if self.log:
            first, last = math.ceil(math.log10(self.low) - 1e-9), math.floor(math.log10(self.high) + 1e-9)
            return [10.0**k for k in range(first, last + 1)]
        step = round_step((self.high - self.low) / about)
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [round(k * step, 12) for k in range(first, last + 1)]

    def _place(self, value: float) -> float:
        return math.log10(max(value, self.low)) if self.log else value


def round_step(least: float) -> float:
    """Return the smallest of 1, 2, 5 times a power of ten that is at least `least` (positive)."""
    power = 10.0 ** math.floor(math.log10(least))
    return next(m * power for m in (1, 2, 5, 10) if m * power >= least * (1 - 1e-9))


def significant(value: float, digits: int = 3) -> str:
    """Format `value` with this many significant digits, never in scientific notation."""
    if value and abs(value) < 1e-4:
        return "< 0.0001" if value > 0 else "> -0.0001"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.{digits}g}"


def polyline(points: Iterable[Point]) -> str:
    """Return the `points` attribute of an SVG polyline."""
    return " ".join(f"{x:g},{y:g}" for x, y in points)


def thin(points: Sequence[Point], most: int) -> list[Point]:
    """Reduce to at most `most` points by averaging runs of neighbouring points."""
    run = math.ceil(len(points) / most)
    if run <= 1:
        return list(points)
    groups = [points[k : k + run] for k in range(0, len(points), run)]
    return [(sum(x for x, _ in g) / len(g), sum(y for _, y in g) / len(g)) for g in groups]
