"""Interpolate tracks, rotations and cameras between frames, and find the moments that unsynchronised views share.

Times are in frames; the first frame is 0. Integer times return the frame itself, bit for bit.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from opendimo.storage_schemas.conventions import camera_centres

Array = NDArray[np.floating]


def moments_of(late: Array, frames: int) -> Array:
    """Return the moments [M] of the rig's clock that any view shows. Each view has `frames` frames, and its frame
    i + `late` [V] shows moment i."""
    return np.arange(np.floor(-np.max(late)), np.ceil(frames - 1 - np.min(late)) + 1)


def linear_at(values: Array, times: Array) -> Array:
    """Interpolate `values` [T, ...] linearly at `times` [N]; clamped to the first and last frame: [N, ...]."""
    low, high, share = _neighbours(len(values), times)
    share = share.reshape(-1, *[1] * (values.ndim - 1))
    return np.where(share > 0, values[low] * (1 - share) + values[high] * share, values[low])


def points_at(points: Array, times: Array) -> Array:
    """Interpolate points [T, ..., n + 1] linearly at `times` [N]: [N, ..., n + 1].

    The last number is the confidence: the minimum of both neighbouring frames, 0 outside the clip.
    """
    low, high, share = _neighbours(len(points), times)
    interpolated = linear_at(points, times)
    between = share.reshape(-1, *[1] * (points.ndim - 2)) > 0
    interpolated[..., -1] = np.where(
        between, np.minimum(points[low][..., -1], points[high][..., -1]), points[low][..., -1]
    )
    interpolated[(_rounded(times) < 0) | (_rounded(times) > len(points) - 1), ..., -1] = 0
    return interpolated


def rotations_at(turns: Array, times: Array) -> Array:
    """Interpolate axis-angle rotations [T, ..., 3] at `times` [N] with slerp; clamped to the ends: [N, ..., 3]."""
    low, high, share = _neighbours(len(turns), times)
    between, interpolated = np.flatnonzero(share), turns[low]
    before, after = (Rotation.from_rotvec(turns[k[between]].reshape(-1, 3)) for k in (low, high))
    turned = _part_way(before, after, np.repeat(share[between], turns[0].size // 3))
    interpolated[between] = turned.as_rotvec().reshape(interpolated[between].shape)
    return interpolated


def cameras_at(world_to_camera: Array, times: Array) -> Array:
    """Interpolate cameras [T, 3, 4] at `times` [N]: rotations with slerp, centres linearly: [N, 3, 4]."""
    low, high, share = _neighbours(len(world_to_camera), times)
    between, interpolated = np.flatnonzero(share), world_to_camera[low]
    before, after = (Rotation.from_matrix(world_to_camera[k[between], :, :3]) for k in (low, high))
    R = _part_way(before, after, share[between]).as_matrix()
    centres = linear_at(camera_centres(world_to_camera), times)[between]
    interpolated[between] = np.concatenate([R, -R @ centres[..., None]], 2)
    return interpolated


def _part_way(before: Rotation, after: Rotation, share: Array) -> Rotation:
    """Return the rotations at `share` [N] of the way from `before` to `after` (slerp)."""
    return before * Rotation.from_rotvec(share[:, None] * (before.inv() * after).as_rotvec())


def _neighbours(frames: int, times: Array) -> tuple[NDArray[np.int64], NDArray[np.int64], Array]:
    """Return the frames before and after each time [N], and its fraction of the way between them."""
    inside = np.clip(_rounded(times), 0, frames - 1)
    low = np.floor(inside).astype(np.int64)
    return low, np.minimum(low + 1, frames - 1), inside - low


def _rounded(times: Array) -> Array:
    """Round times so that sums of frames and offsets that should be integers are integers."""
    return np.round(times, 6)
