"""Solve for one time offset per view from the offsets between pairs of views."""

from dataclasses import dataclass

import numpy as np

from opendimo.pipelines.rigs.views import Array


@dataclass(frozen=True)
class Offsets:
    """Time offsets of V views. `frames` [V]: how late each view is: its frame i + offset shows what the others show at
    i; their median is 0, NaN where unknown. `residual` [V]: median over the other views of the difference to the
    pairwise offset, frames. `estimator`: timestamps, audio or motion."""

    estimator: str
    frames: Array
    residual: Array


def settle(estimator: str, pairs: Array) -> Offsets | None:
    """Solve for offsets from `pairs` [V, V]: how much later the first view is than the second, frames (NaN: unknown).

    Minimises the sum of absolute residuals (by iteratively reweighted least squares), so that one wrong pair is
    outvoted. Returns None if the known pairs do not connect all views.
    """
    count = len(pairs)
    a, b = np.nonzero(np.isfinite(pairs))
    pair_offsets = pairs[a, b]
    rows = np.zeros((len(a) + 1, count))
    rows[np.arange(len(a)), a], rows[np.arange(len(a)), b] = 1, -1
    rows[-1] = 1  # the mean is 0 while solving
    if np.linalg.matrix_rank(rows) < count:
        return None
    weight: Array = np.ones(len(a) + 1)
    offsets: Array = np.zeros(count)
    for _ in range(30):
        offsets = np.asarray(
            np.linalg.lstsq(rows * weight[:, None], np.append(pair_offsets, 0) * weight, rcond=None)[0], np.float64
        )
        weight[:-1] = 1 / np.sqrt(np.maximum(abs(rows[:-1] @ offsets - pair_offsets), 1e-3))
    return with_residuals(estimator, offsets, pairs)


def with_residuals(estimator: str, frames: Array, pairs: Array) -> Offsets:
    """Return offsets [V] relative to their median, with their residuals against `pairs` [V, V]."""
    frames = frames - np.nanmedian(frames)
    differences = abs(frames[:, None] - frames[None] - pairs)
    residual = [float(np.median(row[np.isfinite(row)])) if np.isfinite(row).any() else np.nan for row in differences]
    return Offsets(estimator, frames, np.array(residual))
