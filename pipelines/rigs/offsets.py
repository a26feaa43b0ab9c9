"""One time offset per view from what pairs of views say."""

from dataclasses import dataclass

import numpy as np

from opendimo.pipelines.rigs.views import Array


@dataclass(frozen=True)
class Offsets:
    """`frames` [V]: how late each view is: its frame i + offset shows what others show at i; the middle of all is 0,
    NaN where unknown. `residual` [V]: median over other views of how far a pair by itself says otherwise, frames.
    `witness`: timestamps, audio or motion."""

    witness: str
    frames: Array
    residual: Array


def settle(witness: str, pairs: Array) -> Offsets | None:
    """Offsets from `pairs` [V, V]: how much later the first is than the second, frames (NaN: unknown). None where they
    do not connect all views.

    The least sum of absolute contradictions (by reweighted least squares), so that one wrong pair is outvoted.
    """
    count = len(pairs)
    a, b = np.nonzero(np.isfinite(pairs))
    said = pairs[a, b]
    rows = np.zeros((len(a) + 1, count))
    rows[np.arange(len(a)), a], rows[np.arange(len(a)), b] = 1, -1
    rows[-1] = 1  # the mean is 0 while solving
    if np.linalg.matrix_rank(rows) < count:
        return None
    weight: Array = np.ones(len(a) + 1)
    found: Array = np.zeros(count)
    for _ in range(30):
        found = np.asarray(
            np.linalg.lstsq(rows * weight[:, None], np.append(said, 0) * weight, rcond=None)[0], np.float64
        )
        weight[:-1] = 1 / np.sqrt(np.maximum(abs(rows[:-1] @ found - said), 1e-3))
    return with_residuals(witness, found, pairs)


def with_residuals(witness: str, frames: Array, pairs: Array) -> Offsets:
    """Offsets [V] about their median, with what `pairs` [V, V] say about each."""
    frames = frames - np.nanmedian(frames)
    against = abs(frames[:, None] - frames[None] - pairs)
    residual = [float(np.median(row[np.isfinite(row)])) if np.isfinite(row).any() else np.nan for row in against]
    return Offsets(witness, frames, np.array(residual))
