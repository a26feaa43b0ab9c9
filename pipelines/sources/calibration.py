"""Calibration files of camera rigs: OpenCV matrices in JSON or TOML.

Both hold one table per camera with `size` [width, height], the intrinsic matrix `K` (or `matrix`), the distortion
`dist` (or `distortions`: k1 k2 p1 p2 [k3 [k4 k5 k6]]), and the pose `R` (or `rotation`: 3x3, or a Rodrigues vector)
and `t` (or `translation`) with `x_cam = R X + t` in metres. JSON keeps the cameras under `cameras`; TOML as tables
that have a `matrix`, under `cameras` (caliscope) or at the top (Pose2Sim, aniposelib). An optional `gravity_down`
(at the top, or under `metadata`) says where down is.
"""

import json
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from pipelines.stage import DataError
from storage_schemas.conventions import HALF_PIXEL, scale_intrinsics

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Camera:
    """A static camera: image size (width, height), K [3, 3] pixels, distortion [n], world_to_camera [3, 4] metres."""

    size: tuple[int, int]
    K: Array
    distortion: list[float]
    world_to_camera: Array


@dataclass(frozen=True)
class Calibration:
    """Cameras as written in the file, by name, and gravity where the file gives it."""

    path: Path
    entries: dict[str, dict[str, Any]]
    gravity_down: Any

    def camera(self, name: str) -> Camera:
        """The camera `name`, checked. Raises `DataError` where its numbers cannot be a camera."""
        try:
            return _camera(self.entries[name])
        except (KeyError, TypeError, ValueError) as error:
            text = f"lacks {error}" if isinstance(error, KeyError) else str(error)
            raise DataError(f"{self.path}, camera {name}: {text}") from error


def read_calibration(path: Path) -> Calibration:
    """Read a calibration file. Raises `DataError` where it is unreadable or holds no camera."""
    try:
        content = path.read_text(encoding="utf-8-sig")
        tree = tomllib.loads(content) if path.suffix.lower() == ".toml" else json.loads(content)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: not a readable calibration (JSON or TOML): {error}") from error
    tree = tree if isinstance(tree, dict) else {}
    tables = tree["cameras"] if isinstance(tree.get("cameras"), dict) else tree
    entries = {
        str(table.get("name", key)): table
        for key, table in tables.items()
        if isinstance(table, dict) and ("K" in table or "matrix" in table)
    }
    if not entries:
        raise DataError(f"{path}: no camera in it; expected cameras with size, K (matrix), dist, R (rotation), t")
    metadata = tree["metadata"] if isinstance(tree.get("metadata"), dict) else {}
    return Calibration(path, entries, tree.get("gravity_down", metadata.get("gravity_down")))


def fit(camera: Camera, size: tuple[int, int], first_frame: NDArray[np.uint8]) -> Array:
    """K [3, 3] of `camera` for a video of another `size` (width, height); `first_frame` [H, W, 3] decides how it came.

    Players and converters scale a picture into the new size, with black bars where the shapes differ. So: the same
    shape is scaled; another shape is scaled to fit between the bars, if the bars are there. Raises `DataError` where
    they are not: whether it was cropped or stretched, and where, cannot be known.
    """
    sx, sy = size[0] / camera.size[0], size[1] / camera.size[1]
    if abs(sx / sy - 1) < 1e-3:
        return np.asarray(scale_intrinsics(camera.K, sx, sy), np.float64)
    scale = min(sx, sy)
    bars = [(size[axis] - camera.size[axis] * scale) / 2 for axis in (0, 1)]  # left and right, above and below
    if not _has_bars(first_frame, bars):
        raise DataError(
            f"the calibration is for {camera.size[0]}x{camera.size[1]}, the video is {size[0]}x{size[1]} without bars: "
            "cropped or stretched, nobody knows where; give the video as it was calibrated, or a calibration for it"
        )
    K = np.asarray(scale_intrinsics(camera.K, scale, scale), np.float64)
    K[:2, 2] += bars
    return K


def _has_bars(frame: NDArray[np.uint8], bars: list[float]) -> bool:
    """Black along both edges as wide as expected (less the pixel that blends), and picture right beside it."""
    lines = frame.mean(axis=(0, 2)) if bars[0] > bars[1] else frame.mean(axis=(1, 2))
    wide = max(bars)
    if wide < 2:
        return False
    inner, outer = int(np.ceil(wide)) + 1, int(wide) - 1
    black = np.concatenate([lines[:outer], lines[-outer:]]).max()
    picture = min(lines[inner : inner + 8].mean(), lines[-inner - 8 : -inner].mean())
    return bool(black < 24 and picture > black + 24)


def _camera(entry: dict[str, Any]) -> Camera:
    size = [int(n) for n in entry["size"]]
    K = _array(entry, "K", "matrix", shape=(3, 3))
    R = np.array(_pick(entry, "R", "rotation"), np.float64)
    if R.size == 3:
        R = Rotation.from_rotvec(R.ravel()).as_matrix()
    t = _array(entry, "t", "translation", shape=(3,))
    distortion = np.array(entry.get("dist", entry.get("distortions", [])), np.float64).ravel()
    if entry.get("fisheye"):
        raise ValueError("fisheye lenses are not supported: undistort the video and give the pinhole camera")
    if entry.get("rotation_count"):
        raise ValueError("rotation_count is not 0: rotate the video, calibrate it upright, and set it to 0")
    if len(size) != 2 or min(size) <= 0:
        raise ValueError(f"size {size} should be [width, height] in pixels")
    if K[0, 0] <= 0 or K[1, 1] <= 0 or abs(K[2] - [0, 0, 1]).max() > 1e-9 or not np.isfinite(K).all():
        raise ValueError(f"K {K.tolist()} is no intrinsic matrix")
    if R.shape != (3, 3) or not np.allclose(R @ R.T, np.eye(3), atol=1e-3) or np.linalg.det(R) < 0:
        raise ValueError("R is not a rotation (3x3 with R R^T = 1 and determinant 1, or a Rodrigues vector)")
    if len(distortion) not in (0, 4, 5, 8) or not np.isfinite([*distortion, *t]).all():
        raise ValueError(f"distortion should have 4, 5 or 8 numbers, has {len(distortion)}; all must be finite")
    return Camera((size[0], size[1]), K + HALF_PIXEL, distortion.tolist(), np.concatenate([R, t[:, None]], axis=1))


def _array(entry: dict[str, Any], *names: str, shape: tuple[int, ...]) -> Array:
    array = np.array(_pick(entry, *names), np.float64)
    if array.size != np.prod(shape):
        raise ValueError(f"{names[0]} has shape {array.shape}, expected {shape}")
    return array.reshape(shape)


def _pick(entry: dict[str, Any], *names: str) -> Any:
    for name in names:
        if name in entry:
            return entry[name]
    raise KeyError(" or ".join(names))
