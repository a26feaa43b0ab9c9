"""Calibrated cameras: validation, and adaptation of the intrinsics to a video of another size.

File formats are in `pipelines/sources/calibrations/`, one module each; they all call `make_camera`.
"""

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from opendimo.pipelines.engine.stage import DataError
from opendimo.pipelines.sources.plausible import UNITS, check_principal_point, check_spread
from opendimo.storage_schemas.conventions import HALF_PIXEL, camera_centres, scale_intrinsics

Array = NDArray[np.float64]
Size = tuple[int, int]
OPENCV = "opencv"
FISHEYE = "fisheye"
LENGTHS = {OPENCV: (0, 4, 5, 8, 12, 14), FISHEYE: (4,)}
"""Lens models and their possible numbers of distortion coefficients.

OpenCV: k1 k2 p1 p2 [k3 [k4 k5 k6 [s1..s4 [tx ty]]]]; fisheye: the four of `cv2.fisheye` (Kannala-Brandt model).
"""


@dataclass(frozen=True)
class Camera:
    """A calibrated camera.

    `size`: (width, height) at calibration, None if the file does not state it; `K` [N, 3, 3]: in pixels, counted from
    the corner of the image; `world_to_camera` [N, 3, 4]: in metres if `metric`; `lens`, `distortion`: the lens model.
    N is 1 for a static camera; a moving one has one entry per image, with the image `numbers` [N]. `unit`: metres per
    unit of the file. `turn`: None if the calibration holds for upright pictures; else it holds for pictures as stored,
    which this clockwise rotation in degrees makes upright (0: that of the video). `unsized`: only the angle of view is
    known; K is in widths of the image, from its middle.
    """

    size: Size | None
    K: Array
    distortion: list[float]
    world_to_camera: Array
    lens: str = OPENCV
    metric: bool = True
    numbers: tuple[int, ...] | None = None
    unit: float = 1.0
    turn: int | None = None
    unsized: bool = False


@dataclass(frozen=True)
class Calibration:
    """A calibration read from `files`.

    `format`: its name; `cameras`: functions by camera name that build and validate the camera; `gravity_down`: None if
    unknown; `partial`: cameras without a video are allowed; `moving`: names of the moving cameras.
    """

    files: tuple[Path, ...]
    format: str
    cameras: Mapping[str, Callable[[], Camera]]
    gravity_down: Any = None
    partial: bool = False
    moving: tuple[str, ...] = ()

    @property
    def path(self) -> Path:
        """The main file, used in messages."""
        return self.files[0]

    @property
    def sole(self) -> str | None:
        """The only moving camera, or else the only camera; its video may have any name. None if there are several."""
        names = self.moving or tuple(self.cameras)
        return names[0] if len(names) == 1 else None

    def camera(self, name: str) -> Camera:
        """Return the camera `name`. Raises `DataError` if its numbers are not a valid camera."""
        try:
            return self.cameras[name]()
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            text = f"lacks {error}" if isinstance(error, KeyError) else str(error)
            raise DataError(f"{self.path}, camera {name}: {text}") from error

    def in_unit(self, unit: str | None) -> "Calibration":
        """Return the calibration with its lengths read in `unit` (see `UNITS`) instead of the unit of its format."""
        if unit is None:
            return self
        return replace(self, cameras={name: partial(_in_unit, build, unit) for name, build in self.cameras.items()})

    def check_spread(self, names: list[str]) -> None:
        """Raise `DataError` if the metric ones of the cameras `names` are too far apart to film one person."""
        metric = []
        for name in names:
            with suppress(DataError):  # reported where the camera is used
                metric += [camera for camera in [self.camera(name)] if camera.metric]
        centres = [camera_centres(camera.world_to_camera) for camera in metric]
        try:
            check_spread(np.concatenate([np.zeros((0, 3)), *centres]), metric[0].unit if metric else 1.0)
        except DataError as error:
            raise DataError(f"{self.path}: {error}") from error

    def agrees(self, other: "Calibration") -> bool:
        """Return whether both have the same cameras, up to rounding in the files."""
        if set(self.cameras) != set(other.cameras):
            return False
        return all(_alike(self.camera(name), other.camera(name)) for name in self.cameras)


def make_camera(
    *,
    size: Any,
    K: Any,
    R: Any,
    t: Any,
    distortion: Any = (),
    lens: str = OPENCV,
    unit: float = 1.0,
    metric: bool = True,
    from_corner: bool = False,
    numbers: tuple[int, ...] | None = None,
    turn: int | None = None,
    unsized: bool = False,
) -> Camera:
    """Validate the parameters of `x_cam = R X + t` and return the camera.

    `size`: [2] or None; `K`: [3, 3] or [N, 3, 3], with pixels counted from the centre of the first pixel as in `cv2`
    unless `from_corner`; `R`: [3, 3], [N, 3, 3] or a Rodrigues vector; `t`: [3] or [N, 3] in units of `unit` metres.
    Raises `ValueError` if they are not a valid camera.
    """
    K = _array("K", K, 9).reshape(-1, 3, 3)
    R = np.array(R, np.float64)
    R = (Rotation.from_rotvec(R.ravel()).as_matrix() if R.size == 3 else _array("R", R, 9)).reshape(-1, 3, 3)
    t = _array("t", t, 3).reshape(-1, 3) * unit
    distortion = np.array(distortion, np.float64).ravel()
    if size is not None:
        size = [int(n) for n in size]
        if len(size) != 2 or min(size) <= 0:
            raise ValueError(f"size {size} should be [width, height] in pixels")
    bad = (K[:, 0, 0] <= 0) | (K[:, 1, 1] <= 0) | (abs(K[:, 2] - [0, 0, 1]).max(1) > 1e-9) | (K[:, 1, 0] != 0)
    if bad.any() or not np.isfinite(K).all():
        raise ValueError(f"K {K[int(np.argmax(bad))].tolist()} is no intrinsic matrix")
    if not np.allclose(R @ R.transpose(0, 2, 1), np.eye(3), atol=1e-3) or (np.linalg.det(R) < 0).any():
        raise ValueError("R is not a rotation (3x3 with R R^T = 1 and determinant 1, or a Rodrigues vector)")
    if lens not in LENGTHS:
        raise ValueError(f"lens model {lens} is not known: undistort the video and give the pinhole camera")
    if len(distortion) not in LENGTHS[lens] or not np.isfinite([*distortion, *t.ravel()]).all():
        lengths = ", ".join(map(str, LENGTHS[lens]))
        raise ValueError(f"{lens} distortion should have {lengths} numbers, has {len(distortion)}; all must be finite")
    pose = np.concatenate([R, t[..., None]], axis=2)
    K = np.broadcast_to(K if from_corner else K + HALF_PIXEL, (len(pose), 3, 3))
    size = tuple(size) if size else None
    return Camera(size, K, distortion.tolist(), pose, lens, metric, numbers, unit, turn, unsized)


def fit(camera: Camera, size: Size, first_frame: Callable[[], NDArray[np.uint8]]) -> Array:
    """Return K [N, 3, 3] of `camera` for a video of `size` (width, height), using its `first_frame` [H, W, 3].

    Players and converters scale a picture into the new size and add black bars if the aspect ratio differs. So the
    same aspect ratio means scaling; another one means scaling between black bars, if the first frame shows them.
    Raises `DataError` if it does not: whether and where the video was cropped or stretched is then unknown; also if K
    is of images of another size than stated.
    """
    if camera.unsized:
        middle = np.array([[0, 0, size[0] / 2], [0, 0, size[1] / 2], [0, 0, 0]])
        return np.asarray(scale_intrinsics(camera.K, size[0], size[0]) + middle, np.float64)
    check_principal_point(camera.K, camera.size or size)
    if camera.size is None or camera.size == size:
        return camera.K
    sx, sy = size[0] / camera.size[0], size[1] / camera.size[1]
    if abs(sx / sy - 1) < 1e-3:
        return np.asarray(scale_intrinsics(camera.K, sx, sy), np.float64)
    scale = min(sx, sy)
    bars = [(size[axis] - camera.size[axis] * scale) / 2 for axis in (0, 1)]  # left and right, above and below
    if not _has_bars(first_frame(), bars):
        raise DataError(
            f"the calibration is for {camera.size[0]}x{camera.size[1]}, the video is {size[0]}x{size[1]} without bars: "
            "it was cropped or stretched, where is unknown; give the video as calibrated, or a calibration for it"
        )
    K = np.asarray(scale_intrinsics(camera.K, scale, scale), np.float64)
    K[:, :2, 2] += bars
    return K


def _has_bars(frame: NDArray[np.uint8], bars: list[float]) -> bool:
    """Return whether both edges have black bars of the expected width (minus the blended pixel) beside the picture."""
    lines = frame.mean(axis=(0, 2)) if bars[0] > bars[1] else frame.mean(axis=(1, 2))
    wide = max(bars)
    if wide < 2:
        return False
    inner, outer = int(np.ceil(wide)) + 1, int(wide) - 1
    black = np.concatenate([lines[:outer], lines[-outer:]]).max()
    picture = min(lines[inner : inner + 8].mean(), lines[-inner - 8 : -inner].mean())
    return bool(black < 24 and picture > black + 24)


def _in_unit(build: Callable[[], Camera], unit: str) -> Camera:
    camera = build()
    pose = camera.world_to_camera.copy()
    pose[:, :, 3] *= UNITS[unit] / camera.unit
    return replace(camera, world_to_camera=pose, metric=True, unit=UNITS[unit])


def _alike(a: Camera, b: Camera) -> bool:
    if (a.size, a.lens, a.metric, a.numbers) != (b.size, b.lens, b.metric, b.numbers) or a.K.shape != b.K.shape:
        return False
    longer = max(len(a.distortion), len(b.distortion))
    lenses = [np.pad(camera.distortion, (0, longer - len(camera.distortion))) for camera in (a, b)]
    return (
        np.allclose(a.K, b.K, atol=1e-2)
        and np.allclose(a.world_to_camera, b.world_to_camera, atol=1e-4)
        and np.allclose(lenses[0], lenses[1], atol=1e-5)
    )


def _array(name: str, value: Any, least: int) -> Array:
    array = np.array(value, np.float64)
    if not array.size or array.size % least:
        shape = "[3, 3]" if least == 9 else "[3]"
        raise ValueError(f"{name} has shape {array.shape}, expected {shape}")
    return array
