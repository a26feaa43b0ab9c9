"""Per-frame cameras of one view, for pictures of any size, as read by every layout from its camera files."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from opendimo.pipelines.engine.stage import DataError
from opendimo.storage_schemas.conventions import scale_intrinsics

Array = NDArray[np.float64]
SQUARE = 0.01
"""Largest relative difference of the two focal lengths: renders have square pixels."""


@dataclass(frozen=True)
class Cameras:
    """Cameras of T frames, or T = 1 for all frames.

    `world_to_camera` [T, 3, 4]: in metres; `K` [T, 3, 3]: of upright pictures of width 1 and height 1; `numbers`: frame
    numbers, None if they are not known.
    """

    world_to_camera: Array
    K: Array
    numbers: range | None = None

    def at(self, numbers: range, where: str) -> "Cameras":
        """Return the cameras of pictures `numbers`, which may skip frames by a constant step.

        Raises `DataError` if a picture has no camera, or pictures are missing at the end.
        """
        if self.numbers is None or self.numbers == numbers:
            return self
        expected = range(self.numbers.start, self.numbers.stop, numbers.step)
        if any(number not in self.numbers for number in expected) or numbers != expected:
            raise DataError(
                f"{where}: frame counts disagree: pictures {numbers[0]} to {numbers[-1]} by {numbers.step}, cameras "
                f"{self.numbers[0]} to {self.numbers[-1]} by {self.numbers.step}: some are missing"
            )
        return self.pick(expected)

    def pick(self, numbers: Sequence[int]) -> "Cameras":
        """Return the cameras of the frames `numbers`."""
        indices = [self.numbers.index(number) for number in numbers] if self.numbers else []

        def select(values: Array) -> Array:
            return values if len(values) == 1 else values[indices]

        kept = numbers if isinstance(numbers, range) else None
        return Cameras(select(self.world_to_camera), select(self.K), kept)

    def intrinsics(self, size: tuple[int, int]) -> Array:
        """Return K [T, 3, 3] in pixels of upright pictures of `size` (width, height).

        Raises `DataError` if pixels would not be square, as sensor and picture have different aspect ratios.
        """
        K = np.asarray(scale_intrinsics(self.K, *size), np.float64)
        ratio = K[:, 0, 0] / K[:, 1, 1]
        if (abs(ratio - 1) > SQUARE).any():
            frame = int(abs(ratio - 1).argmax())
            raise DataError(
                f"frame {frame}: a picture of {size[0]}x{size[1]} does not have the shape of the camera's sensor "
                f"(pixels would be {ratio[frame]:.3f} times as high as wide): it was cropped or stretched"
            )
        return K


def unit_intrinsics(focal: ArrayLike, sensor: ArrayLike, *, turned: bool = False) -> Array:
    """Return K [T, 3, 3] of pictures of size 1 x 1.

    Focal lengths `focal` [T] and `sensor` [T, 2] (width, height) are in one unit. `turned`: the picture is rotated by
    90 degrees, so that the sensor's width is the picture's height.
    """
    sensor = np.asarray(sensor, np.float64)
    focal_share = np.asarray(focal, np.float64)[:, None] / (sensor[:, ::-1] if turned else sensor)  # [T, 2]
    K = np.zeros((len(focal_share), 3, 3))
    K[:, [0, 1], [0, 1]] = focal_share
    K[:, :2, 2] = 0.5
    K[:, 2, 2] = 1
    return K


def compose(inner: Array, outer: Array) -> Array:
    """Return world to camera [T, 3, 4] of a camera with pose `inner` relative to a frame with pose `outer`."""
    rotation = inner[:, :, :3] @ outer[:, :, :3]
    translation = np.einsum("tij,tj->ti", inner[:, :, :3], outer[:, :, 3]) + inner[:, :, 3]
    return np.concatenate([rotation, translation[..., None]], axis=-1)


def turn_clockwise(world_to_camera: Array, degrees: int) -> Array:
    """Return the cameras [T, 3, 4] of pictures rotated clockwise by 0, 90, 180 or 270 degrees."""
    cosine, sine = [(1, 0), (0, 1), (-1, 0), (0, -1)][degrees // 90 % 4]
    turn = np.array([[cosine, -sine, 0], [sine, cosine, 0], [0, 0, 1]], np.float64)
    return np.asarray(turn @ world_to_camera, np.float64)


def finite_numbers(what: str, table: Any, columns: int) -> Array:
    """Convert `table` to an array [T, columns] of finite numbers, T >= 1. Raises `DataError` naming `what` if not."""
    try:
        array = np.array(table, np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"{what}: not a table of numbers: {error}") from error
    if array.ndim != 2 or array.shape[1] != columns or not len(array) or not np.isfinite(array).all():
        raise DataError(f"{what}: no rows, or numbers that are not finite")
    return array
