"""Label several calibrated views of a performance: landmarks per view, triangulation, one fit in the world."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from opendimo.model.body.load import Body
from opendimo.model.body.skeleton import JOINTS
from opendimo.pipelines.engine.stage import DataError
from opendimo.pipelines.poses.between import moments_of, points_at
from opendimo.pipelines.poses.fit import fit
from opendimo.pipelines.poses.fit_config import FitConfig
from opendimo.pipelines.poses.hands import drop_strange_hands
from opendimo.pipelines.poses.label import Label, assess, in_camera
from opendimo.pipelines.poses.landmarks import Landmarks
from opendimo.pipelines.poses.mapping import GROUP, observe
from opendimo.pipelines.poses.motion import motion_at, points_of
from opendimo.pipelines.poses.objective import Seen, Target
from opendimo.pipelines.poses.oneview import MAIN
from opendimo.pipelines.poses.triangulation import triangulate
from opendimo.pipelines.poses.view import View

Array = NDArray[np.floating]
TOLERANCE = 0.03
"""Views agree on a point up to this share of the person's height in the image."""
HAND_SHARE = 0.7
"""Minimum share of a hand's points on which two views must agree."""


def multi_view_labels(
    landmarks: list[Landmarks],
    views: list[View],
    body: Body,
    config: FitConfig,
    gravity_down: Array | None = None,
    late: Sequence[float] | None = None,
) -> list[Label]:
    """Return one label per view at its own frames, all from one fit on the clock of the rig.

    `late` [V]: by how many frames each view is late (its frame i + late shows the rig's moment i); None: synchronised.
    Raises `DataError` if the views have different lengths, or do not show one person in common.
    """
    frames = {len(seen.body) for seen in landmarks}
    if len(frames) != 1:
        raise DataError(
            f"the views of one span have different lengths: {sorted(frames)} frames; cut them to the same length"
        )
    observed = [observe(drop_strange_hands(seen)).pixels for seen in landmarks]  # V x [T, P, 3]
    delays = np.zeros(len(views)) if late is None else np.array(late, np.float64)
    moments = moments_of(delays, *frames)
    seen = [_pinhole(pixels, view, moments + d) for pixels, view, d in zip(observed, views, delays, strict=True)]
    points, residual = _in_space(seen)
    if not (points[..., 3] > 0).any():
        raise DataError("no two views agree on any point: check the calibration and the synchronisation")
    # fit to the landmarks of all views, so that body model and motion resolve contradictions between pairs of views
    weighted = [_weighted(view, off) for view, off in zip(seen, residual, strict=True)]
    motion = fit(body, Target(views[0].fps, tuple(weighted), points=points), config)
    labels = []
    for view, pixels, off, delay in zip(views, observed, residual, delays, strict=True):
        times = np.arange(len(pixels)) - delay - moments[0]  # times of this view's frames, in indices of `moments`
        view_motion, agreed = motion_at(body, motion, times), points_at(points, times)
        # compare with the triangulated points projected into this view, not with its own landmarks, which may be wrong
        labels.append(
            assess(
                view_motion,
                view,
                observed=_projected(agreed, view),
                fitted=points_of(body, in_camera(view_motion, view)),
                shape=agreed,
                found=(agreed[:, MAIN, 3] > 0).mean(1) >= 0.5,
                hand_valid=np.stack([(agreed[:, group == GROUP, 3] > 0).mean(1) >= HAND_SHARE for group in (1, 2)], 1),
                confidence=agreed[:, MAIN, 3].mean(1),
                joint_confidence=pixels[:, : len(JOINTS), 2],
                landmarks=pixels,
                gravity_down=gravity_down,
                cross_view=float(np.nanmedian(off)) if np.isfinite(off).any() else None,
            )
        )
    return labels


def _pinhole(pixels: Array, view: View, times: Array) -> Seen:
    """Undistort the observed pixels of the clip [T, P, 3] and resample them and their camera at `times` [M]."""
    undistorted = np.concatenate([view.undistorted(pixels[..., :2]), pixels[..., 2:]], 2)
    camera = view.at(times)
    assert camera.world_to_camera is not None
    return Seen(points_at(undistorted, times), camera.K, camera.world_to_camera)


def _in_space(views: list[Seen]) -> tuple[Array, Array]:
    """Triangulate points [T, P, 4] (x, y, z, confidence); also return residuals [V, T, P] in pixels of each view."""
    V, (T, P) = len(views), views[0].pixels.shape[:2]
    pixels = np.stack([view.pixels for view in views]).reshape(V, T * P, 3)
    projections = np.stack([view.K @ view.camera_from_fit for view in views])  # [V, T, 3, 4]
    per_point = np.broadcast_to(projections[:, :, None], (V, T, P, 3, 4)).reshape(V, T * P, 3, 4)
    tolerance = np.array([TOLERANCE * _height(view.pixels) for view in views])
    triangulated = triangulate(pixels[..., :2], pixels[..., 2], per_point, tolerance)
    points = np.concatenate([triangulated.points, triangulated.confidence[:, None]], 1).reshape(T, P, 4)
    return points, triangulated.residual.reshape(V, T, P)


def _weighted(view: Seen, residual: Array) -> Seen:
    """Lower the confidence of a view with a large median residual, which is out of sync or badly calibrated."""
    if not np.isfinite(residual).any():
        return view
    off = np.nanmedian(residual) / (TOLERANCE * _height(view.pixels))
    pixels = view.pixels.copy()
    pixels[..., 2] /= (1 + off**2) ** 2
    return replace(view, pixels=pixels)


def _height(observed: Array) -> float:
    """Return the median size of the person in the image, pixels."""
    seen = observed[:, GROUP == 0]
    where = np.where(seen[..., 2:] > 0, seen[..., :2], np.nan)[(seen[..., 2] > 0).any(1)]
    if not len(where):
        return 1.0
    return float(np.median((np.nanmax(where, 1) - np.nanmin(where, 1)).max(1)))


def _projected(points: Array, view: View) -> Array:
    """Project 3-D points [T, P, 4] into the view: pixels and confidence [T, P, 3]."""
    camera = view.in_camera(points[..., :3])
    known = (points[..., 3] > 0) & (camera[..., 2] > 0)
    pixels = view.pixels(np.where(known[..., None], camera, np.array([0.0, 0.0, 1.0])))
    return np.concatenate([pixels, np.where(known, points[..., 3], 0)[..., None]], 2)
