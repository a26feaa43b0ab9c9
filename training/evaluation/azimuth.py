"""From how different a side two cameras see a person: the angle between them about gravity, at the person.

The direction from a camera to the person is all that is needed. Of two cameras that look at one point, these directions
are, reversed, where the cameras are as the point sees them; how far away they are does not matter.
"""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]

BUCKETS = (0, 30, 60, 90, 180)
"""Degrees; a gap belongs to the nearest."""
UNKNOWN = "unknown"
STEEPEST = 85.0
"""Degrees from the horizontal beyond which a direction has no azimuth."""


def directions(world_to_camera: Array, K: Array, pixels: Array) -> Array:
    """World directions, of any length, from cameras through pixels, without lens distortion.

    [T, 3, 4], [T, 3, 3], x and y [T, 2] -> [T, 3]; NaN where a pixel is.
    """
    homogeneous = np.concatenate([pixels, np.ones((len(pixels), 1))], axis=1, dtype=np.float64)
    rays = np.linalg.solve(K.astype(np.float64), homogeneous[..., None])  # [T, 3, 1] in the camera
    return (world_to_camera[:, :, :3].astype(np.float64).transpose(0, 2, 1) @ rays)[..., 0]


def azimuth_gap(driving: Array, target: Array, gravity_down: Array) -> float | None:
    """Degrees, 0 to 180, between two cameras as the person sees them, turned about gravity; median over time.

    `driving`, `target` [T, 3]: directions from each camera to the person, in one world. None where no frame tells: the
    person is unseen (NaN), or a camera looks down on them, or up, by more than `STEEPEST`.
    """
    down = gravity_down.astype(np.float64) / np.linalg.norm(gravity_down)
    a, b = _level(driving, down), _level(target, down)
    angles = np.degrees(np.arctan2(np.abs(np.cross(a, b) @ down), (a * b).sum(axis=1)))
    known = angles[np.isfinite(angles)]
    return float(np.median(known)) if len(known) else None


def bucket(gap: float | None) -> str:
    """The bucket of a gap in degrees, or `UNKNOWN`."""
    return UNKNOWN if gap is None else str(min(BUCKETS, key=lambda centre: abs(gap - centre)))


def _level(rays: Array, down: Array) -> Array:
    """The horizontal part of directions [T, 3]; NaN where there is next to none."""
    units = rays / np.linalg.norm(rays, axis=1, keepdims=True)
    level = units - (units @ down)[:, None] * down
    flat = np.linalg.norm(level, axis=1, keepdims=True) > np.cos(np.radians(STEEPEST))
    return np.where(flat, level, np.nan)
