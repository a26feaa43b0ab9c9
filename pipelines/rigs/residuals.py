"""How far the cameras of a rig are from agreeing about points that several of them see."""

from dataclasses import dataclass

import numpy as np

from opendimo.pipelines.poses.triangulation import triangulate
from opendimo.pipelines.rigs.epipolar import LEAST, Seen, distances
from opendimo.pipelines.rigs.views import Array

TOLERANCE = 0.03
"""Views agree about a point up to this share of the size of what they see."""


@dataclass(frozen=True)
class Residuals:
    """`points` [B, L, P, 4] in the world (confidence last). Per view: medians in pixels of the distance to where those
    points should be seen (`reprojection`), and to where each other view says they are (`epipolar`), NaN where unknown;
    `observations`: points behind them."""

    points: Array
    reprojection: Array
    epipolar: Array
    observations: list[int]


def measure(views: list[Seen], trusted: list[bool]) -> Residuals:
    """Residuals of all `views` (in time with each other) about what the `trusted` ones agree on."""
    shape = views[0].points.shape[:3]
    pixels = np.stack([view.points.reshape(-1, 3) for view in views])
    projections = np.stack([_projections(view) for view in views])
    chosen = np.flatnonzero(trusted)
    tolerance = TOLERANCE * float(np.nanmedian([views[k].extent for k in chosen]))  # of all alike: a pixel is a pixel
    confidence = np.where(pixels[..., 2] >= LEAST, pixels[..., 2], 0)
    found = triangulate(pixels[chosen][..., :2], confidence[chosen], projections[chosen], max(tolerance, 1.0))
    known = found.confidence > 0
    off = np.full(confidence.shape, np.nan)
    for k in range(len(views)):
        seen = known & (confidence[k] > 0)
        image = np.einsum("nij,nj->ni", projections[k][..., :3], found.points) + projections[k][..., 3]
        with np.errstate(divide="ignore", invalid="ignore"):
            error = np.linalg.norm(image[:, :2] / image[:, 2:] - pixels[k, :, :2], axis=1)
        off[k, seen] = np.where(image[:, 2] > 0, error, np.inf)[seen]
    epipolar = [_median([distances(view, views[o]) for o in chosen if views[o] is not view]) for view in views]
    points = np.concatenate([found.points, found.confidence[:, None]], 1).reshape(*shape, 4)
    counts = [int(np.isfinite(row).sum()) for row in off]
    return Residuals(points, np.array([_median([row]) for row in off]), np.array(epipolar), counts)


def _projections(seen: Seen) -> Array:
    """K [R | t] [B L P, 3, 4] of each point of a view."""
    frames = seen.frames.ravel()
    each = seen.view.lenses(frames) @ seen.view.poses(frames)
    return np.repeat(each, seen.points.shape[2], axis=0)


def _median(parts: list[Array]) -> float:
    values = np.concatenate([np.zeros(0), *(part[~np.isnan(part)] for part in parts)])
    return float(np.median(values)) if len(values) else float("nan")
