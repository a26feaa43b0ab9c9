"""Triangulate points from several calibrated views robustly, if some views are wrong about some points.

Linear triangulation (DLT, Hartley & Zisserman, 2nd ed., 12.2) from every pair of views. The pair with which most views
agree wins (RANSAC over all pairs), and its inlier views triangulate the point again, weighted by confidence.
"""

from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]
MAX_PAIRS = 60


@dataclass(frozen=True)
class Triangulated:
    """Result of `triangulate`: `points` [N, 3] metres (0 if unknown), `confidence` [N] (mean of the inlier views; 0:
    unknown), `inliers` [V, N], `residual` [V, N] pixels (NaN if the view does not observe the point)."""

    points: Array
    confidence: Array
    inliers: NDArray[np.bool_]
    residual: Array


def triangulate(
    pixels: Array, confidence: Array, projections: Array, tolerance: float | Array, least: float = 0.2
) -> Triangulated:
    """Triangulate N points seen by V views.

    `pixels` [V, N, 2] undistorted, `confidence` [V, N] (below `least`: not observed), `projections` [V, N, 3, 4] =
    K [R | t] per view and point, `tolerance` (one, or per view [V]): inlier threshold in pixels.
    """
    views = len(pixels)
    limit = np.broadcast_to(np.asarray(tolerance, float), views)[:, None]  # [V, 1]
    observed = confidence >= least
    rows = _equations(pixels, projections) / limit[..., None, None]  # [V, N, 2, 4], in units of the tolerance
    best, best_score = np.zeros(observed.shape, bool), np.zeros(observed.shape[1])
    for a, b in _pairs(views):
        points = _solve(rows[[a, b]])
        error = _reprojection(points, pixels, projections)  # [V, N]
        agree = observed & (error < limit)
        both = agree[a] & agree[b]
        # each inlier view scores its confidence, reduced by up to half with its error
        score = np.where(both, (agree * confidence * (1 - 0.5 * np.nan_to_num(error / limit))).sum(0), 0)
        better = score > best_score
        best[:, better], best_score[better] = agree[:, better], score[better]
    weight = np.where(best, np.sqrt(confidence), 0)[..., None, None]
    points = _solve(rows * weight)
    known = best.sum(0) >= 2
    points[~known] = 0
    error = np.where(observed & known, _reprojection(points, pixels, projections), np.nan)
    mean = (confidence * best).sum(0) / np.maximum(best.sum(0), 1)
    return Triangulated(points, np.where(known, mean, 0), best & known, error)


def _pairs(views: int) -> list[tuple[int, int]]:
    """Return all pairs of views, or a fixed random sample of `MAX_PAIRS` if there are more."""
    pairs = list(combinations(range(views), 2))
    if len(pairs) <= MAX_PAIRS:
        return pairs
    chosen = np.random.default_rng(0).choice(len(pairs), MAX_PAIRS, replace=False)
    return [pairs[i] for i in sorted(chosen)]


def _equations(pixels: Array, projections: Array) -> Array:
    """Return the rows [V, N, 2, 4] of x (p3 X) - p1 X = 0 and y (p3 X) - p2 X = 0 for homogeneous X, over the focal
    length."""
    rows = pixels[..., None] * projections[..., 2:3, :] - projections[..., :2, :]
    focal = np.linalg.norm(projections[..., :2, :3], axis=-1).mean(-1)[..., None, None]
    return rows / focal


def _solve(rows: Array) -> Array:
    """Solve rows [V, N, 2, 4] X = 0 with |X| = 1 by least squares: points [N, 3]."""
    stacked = np.moveaxis(rows, 0, 1).reshape(rows.shape[1], -1, 4)  # [N, 2V, 4]
    homogeneous = np.linalg.svd(stacked, full_matrices=False)[2][:, -1] if stacked.shape[1] >= 4 else None
    assert homogeneous is not None
    w = homogeneous[:, 3:]
    return homogeneous[:, :3] / np.where(np.abs(w) < 1e-9, 1e-9, w)


def _reprojection(points: Array, pixels: Array, projections: Array) -> Array:
    """Return the reprojection error in pixels [V, N]; infinite behind the camera."""
    image = np.einsum("vnij,nj->vni", projections[..., :3], points) + projections[..., 3]
    depth = image[..., 2:]
    off = np.linalg.norm(image[..., :2] / np.where(depth > 1e-6, depth, 1) - pixels, axis=-1)
    return np.where(depth[..., 0] > 1e-6, off, np.inf)
