"""Estimate time offsets from motion: the epipolar distances of moving points are smallest at the true offset."""

from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline

from opendimo.pipelines.rigs.epipolar import Seen, distances
from opendimo.pipelines.rigs.offsets import Offsets, with_residuals
from opendimo.pipelines.rigs.views import Array

TENTHS = 10
"""Resolution of the offsets: steps per frame. Costs are evaluated at whole frames and interpolated, because points that
are interpolated between frames are less noisy, which would bias the result towards them."""
LEAST_POINTS = 60
"""Minimum number of points that two views must see in common at every tried offset."""
CONTRAST = 1.25
"""A pair of views is used if its distances at the largest offsets are at least this many times the smallest ones."""

TenthsOfFrames = NDArray[np.int64]
Curves = dict[tuple[int, int], Array]
"""Pair of views -> log of their median epipolar distance as a function of how much later the first view is, from -reach
to reach."""


def from_motion(views: list[Seen], reach: int) -> Offsets | None:
    """Estimate the offsets of views from `-reach` to `reach` frames; None if too little moves or is visible.

    Minimises the sum over all pairs of the logarithm of the median epipolar distance. With the logarithm all pairs have
    the same weight, whether their cameras are near or far, well or badly calibrated.
    """
    curves = {
        (a, b): curve
        for a, b in combinations(range(len(views)), 2)
        if (curve := _curve(views[a], views[b], reach)) is not None
    }
    # a single pair may be wrong, so require two pairs per view unless there are only two views
    least_pairs = min(2, len(views) - 1)
    connected = [view for view in range(len(views)) if sum(view in pair for pair in curves) >= least_pairs]
    if not connected:
        return None
    guesses = [np.zeros(len(views), np.int64), *(_relative_to(view, curves, len(views)) for view in connected)]
    best = min((_descend(guess, curves) for guess in guesses), key=lambda offsets: float(_cost(offsets, curves)))
    pairs = np.full((len(views), len(views)), np.nan)
    for (a, b), curve in curves.items():
        pairs[a, b] = _lowest(curve) / TENTHS
        pairs[b, a] = -pairs[a, b]
    frames = np.full(len(views), np.nan)
    frames[connected] = best[connected] / TENTHS
    return with_residuals("motion", frames, pairs)


def _curve(a: Seen, b: Seen, reach: int) -> Array | None:
    """Return the curve of one pair; None if it sees too few points or has no clear minimum."""
    steps = range(-reach, reach + 1)
    tried = [distances(a.late(step - step // 2), b.late(-(step // 2))) for step in steps]
    if min(int(np.isfinite(off).sum()) for off in tried) < LEAST_POINTS:
        return None
    medians = np.maximum([np.nanmedian(off) for off in tried], 0.1)
    if max(medians[0], medians[-1]) < CONTRAST * medians.min():
        return None
    fine = np.linspace(-reach, reach, 2 * reach * TENTHS + 1)
    return np.asarray(CubicSpline(list(steps), np.log(medians))(fine))


def _cost(offsets: TenthsOfFrames, curves: Curves) -> Array:
    """Return the sum over pairs for offsets [V, ...] in tenths of a frame."""
    costs = [_at(curve, offsets[a] - offsets[b]) for (a, b), curve in curves.items()]
    return np.asarray(np.sum(costs, axis=0))


def _descend(offsets: TenthsOfFrames, curves: Curves) -> TenthsOfFrames:
    """Coordinate descent: set one view at a time to its best offset until nothing improves."""
    reach = len(next(iter(curves.values()))) // 2
    every = np.arange(-reach, reach + 1)
    for _ in range(30):
        before = offsets
        for view in range(len(offsets)):
            tried = np.repeat(offsets[:, None], len(every), axis=1)
            tried[view] = every
            costs = _cost(tried, curves)
            if costs.min() < _cost(offsets, curves) - 1e-9:
                offsets = tried[:, int(np.argmin(costs))]
        if np.array_equal(before, offsets):
            break
    return offsets


def _relative_to(view: int, curves: Curves, count: int) -> TenthsOfFrames:
    """Return the offsets of all views that the pairs with `view` alone give."""
    offsets = np.zeros(count, np.int64)
    for (a, b), curve in curves.items():
        if view == a:
            offsets[b] = -_lowest(curve)
        elif view == b:
            offsets[a] = _lowest(curve)
    return offsets


def _at(curve: Array, offset: TenthsOfFrames) -> Array:
    reach = len(curve) // 2
    return np.asarray(curve[np.clip(offset, -reach, reach) + reach])


def _lowest(curve: Array) -> int:
    return int(np.argmin(curve)) - len(curve) // 2
