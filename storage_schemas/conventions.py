"""Define the conventions of all stored data, and the functions that implement them.

Camera: OpenCV axes (x right, y down, z forward), `x_cam = R X_world + t`, metres, pixels. Pixel coordinates start at
the corner of the image, so the centre of the top left pixel is (0.5, 0.5): as in COLMAP and BEDLAM, and half a pixel
more than in `cv2`. World: right-handed, with `gravity_down` per capture. Time: frames are 0-based, spans half-open,
frame rates rational. Rotations: axis-angle in radians. Body: SMPL-X, Y up, faces +Z, +X is the body's left.
"""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]
HALF_PIXEL = np.array([[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]])
"""Offset to add to an OpenCV K [3, 3], whose pixel coordinates start at the centre of the first pixel."""
ASSUMED_FOCAL = 1.2
"""Default focal length divided by the longer image side (45 degrees: a common phone or web video)."""

SHARE_OF_WINDOW, SHARE_OF_SPAN = 0.2, 0.5
"""Minimum overlap of a span with a window, as a share of the window or of the span, see `holds_in`."""


def holds_in(first: int, end: int, start: int, stop: int) -> bool:
    """Return whether a property of frames [first, end), such as a camera move, applies to the window [start, stop).

    It applies if the overlap is at least `SHARE_OF_WINDOW` of the window or `SHARE_OF_SPAN` of the span. This excludes
    a long camera move that only begins or ends in the window, and includes a short one within it.
    """
    shared = min(end, stop) - max(first, start)
    return shared > 0 and shared >= min(SHARE_OF_WINDOW * (stop - start), SHARE_OF_SPAN * (end - first))


def assumed_intrinsics(width: int, height: int) -> NDArray[np.float64]:
    """Return default intrinsics `K` [3, 3] for an image with an unknown camera."""
    focal = ASSUMED_FOCAL * max(width, height)
    return np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]])


def transform(points_world: Array, world_to_camera: Array) -> Array:
    """Transform world points [T, ..., 3] in metres to camera points [T, ..., 3]; `world_to_camera` is [T, 3, 4]."""
    rotation, translation = world_to_camera[:, :, :3], world_to_camera[:, :, 3]
    flat = points_world.reshape(len(points_world), -1, 3)  # [T, N, 3]
    moved = np.einsum("tij,tnj->tni", rotation, flat) + translation[:, None]
    return moved.reshape(points_world.shape)


def project(points_camera: Array, K: Array) -> Array:
    """Project camera points [T, ..., 3] in metres to pixels [T, ..., 2] with `K` [T, 3, 3], without distortion."""
    flat = points_camera.reshape(len(points_camera), -1, 3)  # [T, N, 3]
    image = np.einsum("tij,tnj->tni", K, flat)
    return (image[..., :2] / image[..., 2:3]).reshape(*points_camera.shape[:-1], 2)


def scale_intrinsics(K: Array, sx: float, sy: float) -> Array:
    """Return `K` [..., 3, 3] for a frame resized by the factors `sx`, `sy`."""
    scaled = np.array(K, dtype=np.float64)
    scaled[..., 0, :] *= sx
    scaled[..., 1, :] *= sy
    return scaled


def camera_centres(world_to_camera: Array) -> Array:
    """Return camera positions in world coordinates, `C = -R^T t`: [T, 3, 4] -> [T, 3] metres."""
    return -np.einsum("tji,tj->ti", world_to_camera[:, :, :3], world_to_camera[:, :, 3])
