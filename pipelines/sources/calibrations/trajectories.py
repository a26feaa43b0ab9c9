"""Camera paths as rows of numbers: HumanVid, RealEstate10K and TUM, one row per frame of one video.

HumanVid: frame, position (3), quaternion x y z w of camera to world in OpenCV's axes, fx and fy in image widths and
heights, and a factor of the position (1 if absent). RealEstate10K: a first line with the URL; then microseconds, fx,
fy, cx, cy in image widths and heights, two unused numbers, and the 12 numbers of world to camera, row by row. TUM:
time, position (3), quaternion x y z w of camera to world; fx, fy, cx, cy in pixels of the video, once or a row per
frame, are in a file beside it (`INTRINSICS`). Whole times are frame numbers, others are counted in order. None is
metric unless the user states a unit.
"""

from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from opendimo.pipelines.engine.stage import DataError
from opendimo.pipelines.sources.calibration import Calibration, Camera, make_camera
from opendimo.pipelines.sources.calibrations.document import Document

Array = NDArray[np.float64]

NAME = "camera path (HumanVid, RealEstate10K, TUM)"
CAMERA = "camera"
HUMANVID, REAL_ESTATE, TUM = (10, 11), 19, 8
"""Numbers in a row."""
INTRINSICS = ("intrinsics.txt", "pred_intrinsics.txt")
"""Names of files with the intrinsics of a TUM path: 4 numbers, or the 9 of K; or `NAME_intrinsics.txt`."""
CENTRED = 0.01
"""Tolerance of the principal point, in image sizes."""


def fits(document: Document) -> bool:
    """Return whether the document is rows of as many numbers as one of the formats has."""
    return document.syntax == "rows" and document.tree.shape[1] in (*HUMANVID, REAL_ESTATE, TUM)


def read(document: Document) -> Calibration:
    """Read the path as one moving camera."""
    rows: Array = document.tree
    if rows.shape[1] == TUM:
        lens = _lens(document.path)
        return Calibration((document.path, lens), NAME, {CAMERA: partial(_tum, rows, lens)}, moving=(CAMERA,))
    build = partial(_real_estate if rows.shape[1] == REAL_ESTATE else _humanvid, rows)
    return Calibration((document.path,), NAME, {CAMERA: build}, moving=(CAMERA,))


def _lens(path: Path) -> Path:
    """Return the file with the intrinsics of a TUM path. Raises `DataError` if there is none."""
    names = (f"{path.stem}_intrinsics.txt", *INTRINSICS)
    found = next((path.with_name(name) for name in names if path.with_name(name).is_file()), None)
    if found is None:
        raise DataError(
            f"{path}: TUM paths have no intrinsics: put fx fy cx cy in pixels of the video into {names[0]} beside it"
        )
    return found


def _tum(rows: Array, lens: Path) -> Camera:
    K = np.loadtxt(lens, ndmin=2, max_rows=len(rows) + 1)
    if len(K) not in (1, len(rows)) or K.shape[1] not in (4, 9):
        raise ValueError(f"{lens} has shape {K.shape}, expected one row or {len(rows)} of 4 or 9 numbers")
    if K.shape[1] == 4:
        fx, fy, cx, cy = K.T
        zero = np.zeros_like(fx)
        K = np.stack([fx, zero, cx, zero, fy, cy, zero, zero, zero + 1], axis=1)
    R, centres, times = _to_camera(rows[:, 4:8]), rows[:, 1:4], rows[:, 0]
    frames = times if (times == np.rint(times)).all() else np.arange(len(rows), dtype=np.float64)
    t, numbers = -np.einsum("tij,tj->ti", R, centres), _frames(frames)
    return make_camera(size=None, K=K.reshape(-1, 3, 3), R=R, t=t, metric=False, numbers=numbers)


def _to_camera(quaternions: Array) -> Array:
    """Return the rotations [T, 3, 3] of world to camera from x y z w of camera to world."""
    if (np.linalg.norm(quaternions, axis=1) < 0.5).any():
        raise ValueError("a quaternion (columns 5 to 8) has no length")
    return np.asarray(Rotation.from_quat(quaternions).as_matrix().transpose(0, 2, 1))


def _humanvid(rows: Array) -> Camera:
    R = _to_camera(rows[:, 4:8])
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
    order = _frames(numbers)
    K = np.zeros((len(R), 3, 3))
    K[:, 0, 0] = K[:, 1, 1] = focal
    K[:, 2, 2] = 1
    return make_camera(size=None, K=K, R=R, t=t, metric=False, from_corner=True, numbers=order, unsized=True)


def _frames(numbers: Array) -> tuple[int, ...]:
    frames = numbers.astype(np.int64)
    if (frames != numbers).any() or (np.diff(frames) <= 0).any() or frames[0] < 0:
        raise ValueError("frame numbers (column 1) should be whole and rise from row to row")
    return tuple(int(number) for number in frames)
