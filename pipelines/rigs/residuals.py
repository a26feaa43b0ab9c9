"""Measure how consistent the cameras of a rig are about points that several of them see."""

from dataclasses import dataclass

import numpy as np

from opendimo.pipelines.poses.triangulation import triangulate
from opendimo.pipelines.rigs.epipolar import LEAST, Seen, distances
from opendimo.pipelines.rigs.views import Array

TOLERANCE = 0.03
"""Views agree on a point up to this share of the size of the person or board in the image."""


@dataclass(frozen=True)
class Residuals:
    """Triangulated `points` [B, L, P, 4] in the world (confidence last), and per view: median distance in pixels to
    their projections (`reprojection`) and to the epipolar lines of the other views (`epipolar`), NaN where unknown;
    `observations`: number of points used."""

    points: Array
    reprojection: Array
    epipolar: Array
    observations: list[int]


def measure(views: list[Seen], trusted: list[bool]) -> Residuals:
    """Return the residuals of all `views` (synchronised) against the points on which the `trusted` ones agree."""
    shape = views[0].points.shape[:3]
    pixels = np.stack([view.points.reshape(-1, 3) for view in views])
    projections = np.stack([_projections(view) for view in views])
    chosen = np.flatnonzero(trusted)
    tolerance = TOLERANCE * float(np.nanmedian([views[k].extent for k in chosen]))  # the same for all views
    confidence = np.where(pixels[..., 2] >= LEAST, pixels[..., 2], 0)
    triangulated = triangulate(pixels[chosen][..., :2], confidence[chosen], projections[chosen], max(tolerance, 1.0))
    known = triangulated.confidence > 0
    errors = np.full(confidence.shape, np.nan)
    for k in range(len(views)):
        seen = known & (confidence[k] > 0)
        image = np.einsum("nij,nj->ni", projections[k][..., :3], triangulated.points) + projections[k][..., 3]
        with np.errstate(divide="ignore", invalid="ignore"):
            error = np.linalg.norm(image[:, :2] / image[:, 2:] - pixels[k, :, :2], axis=1)
        errors[k, seen] = np.where(image[:, 2] > 0, error, np.inf)[seen]
    epipolar = [_median([distances(view, views[o]) for o in chosen if views[o] is not view]) for view in views]
    points = np.concatenate([triangulated.points, triangulated.confidence[:, None]], 1).reshape(*shape, 4)
    counts = [int(np.isfinite(row).sum()) for row in errors]
    return Residuals(points, np.array([_median([row]) for row in errors]), np.array(epipolar), counts)


def _projections(seen: Seen) -> Array:
    """Return K [R | t] [B L P, 3, 4] of each point of a view."""
    frames = seen.frames.ravel()
    each = seen.view.lenses(frames) @ seen.view.poses(frames)
    return np.repeat(each, seen.points.shape[2], axis=0)


def _median(parts: list[Array]) -> float:
    values = np.concatenate([np.zeros(0), *(part[~np.isnan(part)] for part in parts)])
    return float(np.median(values)) if len(values) else float("nan")
