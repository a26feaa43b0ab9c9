"""Conventions of everything stored, and the few functions that define them.

Camera: OpenCV axes (x right, y down, z forward), `x_cam = R X_world + t`, metres, pixels. Pixels are counted from the
corner of the image, so the centre of the top left pixel is (0.5, 0.5): as COLMAP and BEDLAM count, and half a pixel
more than `cv2`. World: right-handed, with `gravity_down` per capture. Time: frames are 0-based, spans half-open,
frame rates rational. Rotations: axis-angle in radians. Body: SMPL-X, Y up, faces +Z, +X is the body's left.
"""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]
HALF_PIXEL = np.array([[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]])
"""What to add to a K [3, 3] of OpenCV, which counts pixels from the centre of the first one."""
ASSUMED_FOCAL = 1.2
"""Focal length over the longer side of the picture where nothing is known (45 degrees: a common phone or web video)."""

SHARE_OF_WINDOW, SHARE_OF_SPAN = 0.2, 0.5
"""What a span of frames must fill of a window, or have of itself in it, to hold there."""


def holds_in(first: int, end: int, start: int, stop: int) -> bool:
    """Whether what is so in frames [first, end), as a camera move, is said of the window [start, stop).

    It is where it fills `SHARE_OF_WINDOW` of the window, or where `SHARE_OF_SPAN` of itself lies in it: a long move
    that just begins or ends there is left out, a short one within it is not.
    """
    shared = min(end, stop) - max(first, start)
    return shared > 0 and shared >= min(SHARE_OF_WINDOW * (stop - start), SHARE_OF_SPAN * (end - first))


def assumed_intrinsics(width: int, height: int) -> NDArray[np.float64]:
    """The `K` [3, 3] of a picture of which nothing is known."""
    focal = ASSUMED_FOCAL * max(width, height)
    return np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]])


def transform(points_world: Array, world_to_camera: Array) -> Array:
    """World points to camera points. `points_world` [T, ..., 3] metres, `world_to_camera` [T, 3, 4] -> [T, ..., 3]."""
    rotation, translation = world_to_camera[:, :, :3], world_to_camera[:, :, 3]
    flat = points_world.reshape(len(points_world), -1, 3)  # [T, N, 3]
    moved = np.einsum("tij,tnj->tni", rotation, flat) + translation[:, None]
    return moved.reshape(points_world.shape)


def project(points_camera: Array, K: Array) -> Array:
    """Camera points to pixels, without distortion. [T, ..., 3] metres and [T, 3, 3] -> [T, ..., 2] pixels."""
    flat = points_camera.reshape(len(points_camera), -1, 3)  # [T, N, 3]
    image = np.einsum("tij,tnj->tni", K, flat)
    return (image[..., :2] / image[..., 2:3]).reshape(*points_camera.shape[:-1], 2)


def scale_intrinsics(K: Array, sx: float, sy: float) -> Array:
    """`K` [..., 3, 3] of a frame that was resized by `sx`, `sy`."""
    scaled = np.array(K, dtype=np.float64)
    scaled[..., 0, :] *= sx
    scaled[..., 1, :] *= sy
    return scaled


def camera_centres(world_to_camera: Array) -> Array:
    """Camera positions in the world: `C = -R^T t`. [T, 3, 4] -> [T, 3] metres."""
    return -np.einsum("tji,tj->ti", world_to_camera[:, :, :3], world_to_camera[:, :, 3])
