"""Measure epipolar distances of points seen by two calibrated cameras (Hartley & Zisserman, 2nd ed., 9.2)."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from opendimo.pipelines.poses.between import points_at
from opendimo.pipelines.rigs.views import Array, RigView

LEAST = 0.5
"""Minimum confidence of a point."""


@dataclass(frozen=True)
class Seen:
    """Points detected in a view: `points` [B, L, P, 3] (x, y, confidence) of a pinhole camera at its `frames` [B, L],
    which are `shift` frames after the sampled moments."""

    view: RigView
    frames: NDArray[np.int64]
    points: Array
    shift: int = 0

    def late(self, offset: float) -> "Seen":
        """Return the view shifted in time: its points `offset` frames later, interpolated between frames."""
        by_time = np.moveaxis(self.points, 1, 0)
        moved = points_at(by_time, np.arange(len(by_time)) + offset)
        points = np.asarray(np.moveaxis(moved, 0, 1), np.float64)
        frames = self.frames + round(offset)
        return Seen(self.view, frames, points, self.shift + round(offset))

    @property
    def extent(self) -> float:
        """Median size of the detected person or board: the longer side of its box, pixels."""
        shown = self.points[..., 2] >= LEAST
        visible_points = np.where(shown[..., None], self.points[..., :2], np.nan)[shown.sum(-1) >= 4]
        if not len(visible_points):
            return float("nan")
        return float(np.median((np.nanmax(visible_points, 1) - np.nanmin(visible_points, 1)).max(1)))


def distances(a: Seen, b: Seen) -> Array:
    """Return the distance [B, L, P] in pixels of each point to its epipolar line from the other view: the mean of both
    views, NaN where either view does not see the point."""
    essential = _essential(a, b)  # [B, L, 3, 3]
    rays_a, rays_b = _rays(a), _rays(b)
    line_b = np.einsum("blij,blpj->blpi", essential, rays_a)
    line_a = np.einsum("blji,blpj->blpi", essential, rays_b)
    off = abs((rays_b * line_b).sum(-1))
    focal_a, focal_b = (seen.view.K[0, 0, 0] for seen in (a, b))
    with np.errstate(divide="ignore", invalid="ignore"):
        off_a = off / np.linalg.norm(line_a[..., :2], axis=-1) * focal_a
        off_b = off / np.linalg.norm(line_b[..., :2], axis=-1) * focal_b
    both = (a.points[..., 2] >= LEAST) & (b.points[..., 2] >= LEAST)
    return np.where(both, (off_a + off_b) / 2, np.nan)


def _essential(a: Seen, b: Seen) -> Array:
    A, B = (seen.view.poses(seen.frames.ravel()) for seen in (a, b))
    R = B[:, :, :3] @ A[:, :, :3].transpose(0, 2, 1)
    t = B[:, :, 3] - np.einsum("nij,nj->ni", R, A[:, :, 3])
    cross = np.zeros((len(t), 3, 3))
    cross[:, 0, 1], cross[:, 0, 2], cross[:, 1, 2] = -t[:, 2], t[:, 1], -t[:, 0]
    cross -= cross.transpose(0, 2, 1)
    return (cross @ R).reshape(*a.frames.shape, 3, 3)


def _rays(seen: Seen) -> Array:
    homogeneous = np.concatenate([seen.points[..., :2], np.ones_like(seen.points[..., :1])], -1)
    inverse = np.linalg.inv(seen.view.lenses(seen.frames.ravel())).reshape(*seen.frames.shape, 3, 3)
    return np.asarray(np.einsum("blij,blpj->blpi", inverse, homogeneous))
