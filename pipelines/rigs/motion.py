"""Time offsets from motion: only at the right offset do two views see moving points where both cameras allow it."""

from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline

from opendimo.pipelines.rigs.epipolar import Seen, distances
from opendimo.pipelines.rigs.offsets import Offsets, with_residuals
from opendimo.pipelines.rigs.views import Array

TENTHS = 10
"""Whole frames are tried, and interpolated to tenths: points between frames would be less noisy than others."""
LEAST_POINTS = 60
"""Fewest points that two views must see at one time."""
CONTRAST = 1.25
"""A pair tells the time if at a wrong offset its distances are this many times those at the right one."""

Places = NDArray[np.int64]
Curves = dict[tuple[int, int], Array]
"""For a pair of views, the log of their median distance over how much later the first is, from -reach to reach."""


def from_motion(views: list[Seen], reach: int) -> Offsets | None:
    """Offsets of views from `-reach` to `reach` frames; None where nothing moves, or too little is seen.

    All pairs decide together: the offsets have the least sum over pairs of the logarithm of the median distance, so
    that pairs count alike, whether their cameras are near or far, well or badly calibrated.
    """
    curves = {
        (a, b): curve
        for a, b in combinations(range(len(views)), 2)
        if (curve := _curve(views[a], views[b], reach)) is not None
    }
    # one pair alone is believed only where there is no other: it may be a wrong one
    enough = min(2, len(views) - 1)
    told = [view for view in range(len(views)) if sum(view in pair for pair in curves) >= enough]
    if not told:
        return None
    guesses = [np.zeros(len(views), np.int64), *(_by(view, curves, len(views)) for view in told)]
    best = min((_descend(guess, curves) for guess in guesses), key=lambda found: float(_cost(found, curves)))
    pairs = np.full((len(views), len(views)), np.nan)
    for (a, b), curve in curves.items():
        pairs[a, b] = _lowest(curve) / TENTHS
        pairs[b, a] = -pairs[a, b]
    frames = np.full(len(views), np.nan)
    frames[told] = best[told] / TENTHS
    return with_residuals("motion", frames, pairs)


def _curve(a: Seen, b: Seen, reach: int) -> Array | None:
    """The curve of one pair; None where it tells nothing."""
    steps = range(-reach, reach + 1)
    tried = [distances(a.late(step - step // 2), b.late(-(step // 2))) for step in steps]
    if min(int(np.isfinite(off).sum()) for off in tried) < LEAST_POINTS:
        return None
    medians = np.maximum([np.nanmedian(off) for off in tried], 0.1)
    if max(medians[0], medians[-1]) < CONTRAST * medians.min():
        return None
    fine = np.linspace(-reach, reach, 2 * reach * TENTHS + 1)
    return np.asarray(CubicSpline(list(steps), np.log(medians))(fine))


def _cost(found: Places, curves: Curves) -> Array:
    """The sum over pairs for offsets [V, ...] in tenths."""
    costs = [_at(curve, found[a] - found[b]) for (a, b), curve in curves.items()]
    return np.asarray(np.sum(costs, axis=0))


def _descend(found: Places, curves: Curves) -> Places:
    """Change one view at a time, by what is then best for it, until no change helps."""
    reach = len(next(iter(curves.values()))) // 2
    every = np.arange(-reach, reach + 1)
    for _ in range(30):
        before = found
        for view in range(len(found)):
            tried = np.repeat(found[:, None], len(every), axis=1)
            tried[view] = every
            costs = _cost(tried, curves)
            if costs.min() < _cost(found, curves) - 1e-9:
                found = tried[:, int(np.argmin(costs))]
        if np.array_equal(before, found):
            break
    return found


def _by(view: int, curves: Curves, count: int) -> Places:
    """What one view says of all others by itself."""
    found = np.zeros(count, np.int64)
    for (a, b), curve in curves.items():
        if view == a:
            found[b] = -_lowest(curve)
        elif view == b:
            found[a] = _lowest(curve)
    return found


def _at(curve: Array, offset: Places) -> Array:
    reach = len(curve) // 2
    return np.asarray(curve[np.clip(offset, -reach, reach) + reach])


def _lowest(curve: Array) -> int:
    return int(np.argmin(curve)) - len(curve) // 2
