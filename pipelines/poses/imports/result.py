"""What readers return: the motion of one person in a video, in the conventions of the format, made uniform."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from opendimo.pipelines.engine.stage import DataError

Array = NDArray[np.floating]
SMPL_PELVIS = np.array([-0.0018, -0.2233, 0.0282])
"""Rest position of the pelvis joint of the neutral SMPL body, metres. It rotates about this point, as SMPL-X about its
own; with it, `transl` of SMPL becomes a position of the pelvis. (Bodies of other shapes: 0 to 3 cm.)"""
MAX_FRAMES = 1_000_000


@dataclass(frozen=True)
class Camera:
    """Camera that a result was made for: `focal` [N], `centre` [N, 2] and the `size` (width, height) of its image."""

    focal: Array
    centre: Array
    size: tuple[float, float]

    def at(self, indices: Any) -> "Camera":
        """Return the camera of some of the frames."""
        return Camera(self.focal[indices], self.centre[indices], self.size)

    def K(self, width: float, height: float) -> Array:
        """Return K [N, 3, 3] for an image scaled to `width` x `height`."""
        scale = np.array([width / self.size[0], height / self.size[1]])
        K = np.zeros((len(self.focal), 3, 3))
        K[:, 0, 0], K[:, 1, 1], K[:, 2, 2] = self.focal * scale[0], self.focal * scale[1], 1
        K[:, :2, 2] = self.centre * scale
        return K


@dataclass(frozen=True)
class Person:
    """SMPL-X rotations of one person over N frames of a video.

    `frames` [N]: rising frame numbers. `orient` [N, 3], `body` [N, 21, 3], `hands` [N, 2, 15, 3] (None: not estimated):
    axis-angle; SMPL has the same 21 rotations. `position` [N, 3] in metres: the pelvis joint if `of_pelvis`, else
    SMPL-X's `transl`. `betas` [B] of SMPL-X; None: unknown, or of SMPL, whose shapes are others. `camera`: axes and
    pixels are its own; None: `orient` and `position` are in the world of the clip's known camera. `fps`: frame rate of
    `frames`; None: that of the video.
    """

    name: str
    frames: NDArray[np.int64]
    orient: Array
    body: Array
    hands: Array | None
    position: Array
    of_pelvis: bool
    betas: Array | None
    camera: Camera | None
    fps: float | None = None

    def __post_init__(self) -> None:
        n = len(self.frames)
        shapes = {"orient": (n, 3), "body": (n, 21, 3), "position": (n, 3)} | (
            {} if self.hands is None else {"hands": (n, 2, 15, 3)}
        )
        for name, shape in shapes.items():
            value = np.asarray(getattr(self, name))
            if value.shape != shape:
                raise DataError(f"{self.name}: {name} has the shape {value.shape}, expected {shape}")
            if not np.isfinite(value).all():
                raise DataError(f"{self.name}: {name} has numbers that are not finite")
        if not n or n > MAX_FRAMES or self.frames[0] < 0 or (np.diff(self.frames) <= 0).any():
            raise DataError(f"{self.name}: {n} frames whose numbers do not rise from 0")
        if self.camera is not None and not (np.isfinite(self.camera.focal).all() and (self.camera.focal > 0).all()):
            raise DataError(f"{self.name}: a focal length is not a positive number")


@dataclass(frozen=True)
class Points:
    """Joints of one person over N frames, by name, where a format gives points instead of rotations.

    `names` [P]: of `poses.mapping.POINTS`. `shape` [N, P, 4]: x, y, z, confidence, camera axes, any scale and origin
    per frame. `pixels` [N, P, 3]: x, y, confidence in an image of `size`. `world` [N, P, 4]: metres in the world of the
    clip's camera, instead of both.
    """

    name: str
    frames: NDArray[np.int64]
    names: tuple[str, ...]
    shape: Array | None = None
    pixels: Array | None = None
    size: tuple[float, float] | None = None
    world: Array | None = None
    fps: float | None = None

    def __post_init__(self) -> None:
        n, p = len(self.frames), len(self.names)
        for name, last in (("shape", 4), ("pixels", 3), ("world", 4)):
            value = getattr(self, name)
            if value is not None and (value.shape != (n, p, last) or not np.isfinite(value).all()):
                raise DataError(f"{self.name}: {name} is not [{n}, {p}, {last}] of finite numbers: {value.shape}")
        if not n or n > MAX_FRAMES or (np.diff(self.frames) <= 0).any():
            raise DataError(f"{self.name}: {n} frames whose numbers do not rise")


Result = Person | Points


def axis_angle(matrices: Array) -> Array:
    """Convert rotation matrices [..., 3, 3] to axis-angle [..., 3]."""
    matrices = np.asarray(matrices, np.float64)
    return Rotation.from_matrix(matrices.reshape(-1, 3, 3)).as_rotvec().reshape(*matrices.shape[:-2], 3)


def shaped(values: Any, *shape: int) -> Array:
    """Return `values` as float64 of a shape. Raises `DataError` if the number of values does not fit."""
    array = np.asarray(values, np.float64)
    try:
        return array.reshape(shape)
    except ValueError as error:
        raise DataError(f"an array of the shape {array.shape} is not {list(shape)}") from error


def mean_betas(betas: Any) -> Array:
    """Return one shape [B] for all frames: the mean of [N, B] or [B]."""
    values = np.asarray(betas, np.float64)
    return values.reshape(-1, values.shape[-1]).mean(0)


def centred(focal: Any, centre: Any, frames: int, size: tuple[float, float] | None = None) -> Camera:
    """Return a constant camera; without `size`, its image is twice its centre."""
    at = shaped(centre, 2)
    repeated = np.broadcast_to(np.asarray(focal, np.float64).ravel()[0], (frames,))
    return Camera(repeated, np.broadcast_to(at, (frames, 2)), size or (2 * float(at[0]), 2 * float(at[1])))
