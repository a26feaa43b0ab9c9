"""Camera paths as rows of numbers: HumanVid and RealEstate10K, one row per frame of one video.

HumanVid: frame, position (3), quaternion x y z w of camera to world in OpenCV's axes, fx and fy in image widths and
heights, and a factor of the position (1 if absent). RealEstate10K: a first line with the URL; then microseconds, fx,
fy, cx, cy in image widths and heights, two unused numbers, and the 12 numbers of world to camera, row by row. Both are
of structure from motion: not metric unless the user states a unit.
"""

from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from opendimo.pipelines.sources.calibration import Calibration, Camera, make_camera
from opendimo.pipelines.sources.calibrations.document import Document

Array = NDArray[np.float64]

NAME = "camera path (HumanVid, RealEstate10K)"
CAMERA = "camera"
HUMANVID, REAL_ESTATE = (10, 11), 19
"""Numbers in a row."""
CENTRED = 0.01
"""Tolerance of the principal point, in image sizes."""


def fits(document: Document) -> bool:
    """Return whether the document is rows of as many numbers as one of the formats has."""
    return document.syntax == "rows" and document.tree.shape[1] in (*HUMANVID, REAL_ESTATE)


def read(document: Document) -> Calibration:
    """Read the path as one moving camera."""
    rows: Array = document.tree
    build = partial(_real_estate if rows.shape[1] == REAL_ESTATE else _humanvid, rows)
    return Calibration((document.path,), NAME, {CAMERA: build}, moving=(CAMERA,))


def _humanvid(rows: Array) -> Camera:
    if (np.linalg.norm(rows[:, 4:8], axis=1) < 0.5).any():
        raise ValueError("a quaternion (columns 5 to 8) has no length")
    R = Rotation.from_quat(rows[:, 4:8]).as_matrix().transpose(0, 2, 1)
    centres = rows[:, 1:4] * (rows[:, 10:] if rows.shape[1] > 10 else 1)
    return _path(R, -np.einsum("tij,tj->ti", R, centres), rows[:, 8], rows[:, 0])


def _real_estate(rows: Array) -> Camera:
    if (abs(rows[:, 3:5] - 0.5) > CENTRED).any():
        raise ValueError(
            "the principal point is not in the middle of the image, which a path without a size cannot hold"
        )
    pose = rows[:, 7:].reshape(-1, 3, 4)
    return _path(pose[:, :, :3], pose[:, :, 3], rows[:, 1], np.arange(len(rows), dtype=np.float64))


def _path(R: Array, t: Array, focal: Array, numbers: Array) -> Camera:
    """Build a camera of square pixels; `focal` [T] in image widths."""
    frames = numbers.astype(np.int64)
    if (frames != numbers).any() or (np.diff(frames) <= 0).any() or frames[0] < 0:
        raise ValueError("frame numbers (column 1) should be whole and rise from row to row")
    K = np.zeros((len(R), 3, 3))
    K[:, 0, 0] = K[:, 1, 1] = focal
    K[:, 2, 2] = 1
    order = tuple(int(n) for n in frames)
    return make_camera(size=None, K=K, R=R, t=t, metric=False, from_corner=True, numbers=order, unsized=True)
