"""What lies between frames: tracks, rotations and cameras at any times; and the moments that late views show together.

Times count frames; the first is 0. Whole times give the frame itself, bit for bit.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from opendimo.storage_schemas.conventions import camera_centres

Array = NDArray[np.floating]


def moments_of(late: Array, frames: int) -> Array:
    """The moments [M] of a rig's clock that views of so many `frames` show; frame i + `late` [V] shows moment i."""
    return np.arange(np.floor(-np.max(late)), np.ceil(frames - 1 - np.min(late)) + 1)


def linear_at(values: Array, times: Array) -> Array:
    """`values` [T, ...] at `times` [N] in straight lines, the nearest frame beyond the ends: [N, ...]."""
    low, high, share = _neighbours(len(values), times)
    share = share.reshape(-1, *[1] * (values.ndim - 1))
    return np.where(share > 0, values[low] * (1 - share) + values[high] * share, values[low])


def points_at(points: Array, times: Array) -> Array:
    """Points [T, ..., n + 1] at `times` [N] in straight lines: [N, ..., n + 1]. The last number is the confidence: the
    smaller one of both neighbours, 0 beyond the ends."""
    low, high, share = _neighbours(len(points), times)
    found = linear_at(points, times)
    between = share.reshape(-1, *[1] * (points.ndim - 2)) > 0
    found[..., -1] = np.where(between, np.minimum(points[low][..., -1], points[high][..., -1]), points[low][..., -1])
    found[(_rounded(times) < 0) | (_rounded(times) > len(points) - 1), ..., -1] = 0
    return found


def rotations_at(turns: Array, times: Array) -> Array:
    """Axis-angle rotations [T, ..., 3] at `times` [N], turned evenly about one axis between frames (slerp), the nearest
    frame beyond the ends: [N, ..., 3]."""
    low, high, share = _neighbours(len(turns), times)
    between, found = np.flatnonzero(share), turns[low]
    before, after = (Rotation.from_rotvec(turns[k[between]].reshape(-1, 3)) for k in (low, high))
    turned = _part_way(before, after, np.repeat(share[between], turns[0].size // 3))
    found[between] = turned.as_rotvec().reshape(found[between].shape)
    return found


def cameras_at(world_to_camera: Array, times: Array) -> Array:
    """Cameras [T, 3, 4] at `times` [N]: between frames they turn evenly and their centres go straight: [N, 3, 4]."""
    low, high, share = _neighbours(len(world_to_camera), times)
    between, found = np.flatnonzero(share), world_to_camera[low]
    before, after = (Rotation.from_matrix(world_to_camera[k[between], :, :3]) for k in (low, high))
    R = _part_way(before, after, share[between]).as_matrix()
    centres = linear_at(camera_centres(world_to_camera), times)[between]
    found[between] = np.concatenate([R, -R @ centres[..., None]], 2)
    return found


def _part_way(before: Rotation, after: Rotation, share: Array) -> Rotation:
    """`share` [N] of the way from one rotation to the other."""
    return before * Rotation.from_rotvec(share[:, None] * (before.inv() * after).as_rotvec())


def _neighbours(frames: int, times: Array) -> tuple[NDArray[np.int64], NDArray[np.int64], Array]:
    """The frames before and after each time [N], and its share of the way from one to the other."""
    inside = np.clip(_rounded(times), 0, frames - 1)
    low = np.floor(inside).astype(np.int64)
    return low, np.minimum(low + 1, frames - 1), inside - low


def _rounded(times: Array) -> Array:
    """Sums of frames and offsets without the last digits, in which whole times are not whole."""
    return np.round(times, 6)
