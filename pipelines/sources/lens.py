"""Undistort points and images.

The sources stage stores videos and OpenCV distortion unchanged; code that needs a pinhole camera calls these functions.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from opendimo.pipelines.sources.calibration import FISHEYE, OPENCV, Array, Camera
from opendimo.storage_schemas.conventions import HALF_PIXEL

Image = NDArray[np.uint8]


def undistort_points(pixels: Array, K: Array, distortion: list[float], lens: str = OPENCV) -> Array:
    """Convert distorted pixels [N, 2] to pixels [N, 2] of the pinhole camera with the same `K` [3, 3]."""
    points = np.asarray(pixels, np.float64)[:, None]
    if not len(distortion) or not len(points):
        return points[:, 0]
    undistort = cv2.fisheye.undistortPoints if lens == FISHEYE else cv2.undistortPoints
    K = np.asarray(K, np.float64)
    return np.asarray(undistort(points, K, np.array(distortion, np.float64), P=K)[:, 0])


def pinhole_maps(camera: Camera) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the two maps [H, W] for `cv2.remap` from the camera's image to the pinhole camera with the same K.

    Raises `ValueError` if the camera has no size, moves, or has a lens model that OpenCV does not support.
    """
    if camera.size is None or len(camera.K) != 1 or camera.lens not in (OPENCV, FISHEYE):
        raise ValueError("the camera must be static and have a size and a lens model that OpenCV supports")
    K = camera.K[0] - HALF_PIXEL  # remap counts pixels from the centre of the first one
    distortion = np.array(camera.distortion, np.float64)
    build = cv2.fisheye.initUndistortRectifyMap if camera.lens == FISHEYE else cv2.initUndistortRectifyMap
    maps = build(K, distortion, np.eye(3), K, camera.size, cv2.CV_32FC1)
    return np.asarray(maps[0], np.float32), np.asarray(maps[1], np.float32)


def undistort(image: Image, maps: tuple[NDArray[np.float32], NDArray[np.float32]]) -> Image:
    """Undistort `image` [H, W, 3] with the maps of `pinhole_maps`; pixels outside the image become black."""
    return np.asarray(cv2.remap(image, *maps, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT), np.uint8)
