"""Azimuth gap between two cameras: the angle about gravity, at the person, between the directions to both cameras.

Only the directions from the cameras to the person are needed; the distances do not matter.
"""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]

BUCKETS = (0, 30, 60, 90, 180)
"""Bucket centres in degrees; a gap belongs to the nearest one."""
UNKNOWN = "unknown"
STEEPEST = 85.0
"""Elevation in degrees beyond which the azimuth of a direction is undefined."""


def directions(world_to_camera: Array, K: Array, pixels: Array) -> Array:
    """Return world directions [T, 3], not normalised, from cameras through pixels, ignoring lens distortion.

    `world_to_camera` [T, 3, 4], `K` [T, 3, 3], `pixels` [T, 2] (x, y); NaN pixels give NaN directions.
    """
    homogeneous = np.concatenate([pixels, np.ones((len(pixels), 1))], axis=1, dtype=np.float64)
    rays = np.linalg.solve(K.astype(np.float64), homogeneous[..., None])  # [T, 3, 1] in camera coordinates
    return (world_to_camera[:, :, :3].astype(np.float64).transpose(0, 2, 1) @ rays)[..., 0]


def azimuth_gap(driving: Array, target: Array, gravity_down: Array) -> float | None:
    """Return the angle about gravity between two cameras as seen from the person, 0 to 180 degrees; median over time.

    `driving`, `target` [T, 3]: directions from each camera to the person, in the same world coordinates. None if no
    frame can be used: the person is not visible (NaN), or a camera looks up or down by more than `STEEPEST`.
    """
    down = gravity_down.astype(np.float64) / np.linalg.norm(gravity_down)
    a, b = _horizontal(driving, down), _horizontal(target, down)
    angles = np.degrees(np.arctan2(np.abs(np.cross(a, b) @ down), (a * b).sum(axis=1)))
    finite = angles[np.isfinite(angles)]
    return float(np.median(finite)) if len(finite) else None


def bucket(gap: float | None) -> str:
    """Return the bucket of a gap in degrees, or `UNKNOWN` for None."""
    return UNKNOWN if gap is None else str(min(BUCKETS, key=lambda centre: abs(gap - centre)))


def _horizontal(rays: Array, down: Array) -> Array:
    """Return the horizontal component of directions [T, 3]; NaN if the direction is steeper than `STEEPEST`."""
    units = rays / np.linalg.norm(rays, axis=1, keepdims=True)
    horizontal = units - (units @ down)[:, None] * down
    has_azimuth = np.linalg.norm(horizontal, axis=1, keepdims=True) > np.cos(np.radians(STEEPEST))
    return np.where(has_azimuth, horizontal, np.nan)
