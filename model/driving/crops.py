"""Driving crops: the input images of the motion encoder.

Crops keep one size over a window, so that changes of extent, such as opening a hand, remain motion rather than zoom.
"""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.transforms.v2.functional import crop, resize

from opendimo.model.encoder.config import EncoderConfig

BODY_MARGIN, HAND_MARGIN = 1.1, 1.5
"""Side of a crop relative to the extent of the body or hand in it."""
HAND_JOINTS = (20, *range(22, 37)), (21, *range(37, 52))
"""Indices of wrist and fingers of the left and the right hand among the 52 joints."""


class Crops(NamedTuple):
    """Crops of one window, as in the fields of `model.batch.Driving` with the same names."""

    body: Tensor  # [T, 3, S, S] uint8, black outside of the frame
    hands: Tensor  # [T, 2, 3, s, s] uint8, left, right; black if missing
    hand_ok: Tensor  # [T, 2] bool
    hand_boxes: Tensor  # [T, 2, 3] centre x, y and half side; the whole body crop (0, 0, 1) if the hand is missing


class Square(NamedTuple):
    """A square with integer pixel coordinates."""

    left: int
    top: int
    side: int

    @classmethod
    def around(cls, centre: NDArray[np.floating], side: float) -> "Square":
        """Return the square nearest to one of `side` pixels around `centre` (x, y)."""
        pixels = round(side)
        left, top = (round(float(c) - pixels / 2) for c in centre)
        return cls(left, top, pixels)

    def cut(self, picture: Tensor, size: int) -> Tensor:
        """Crop a picture [3, H, W], black outside of it, and resize the crop to [3, size, size]."""
        return resize(crop(picture, self.top, self.left, self.side, self.side), [size, size], antialias=True)

    def within(self, other: "Square") -> tuple[float, float, float]:
        """Return centre x, y and half side in the coordinates of the other square, which spans [-1, 1]."""
        x, y = ((2 * (a - b) + self.side) / other.side - 1 for a, b in zip(self[:2], other[:2], strict=True))
        return x, y, self.side / other.side


def driving_crops(
    frames: Iterable[NDArray[np.uint8]],
    track: NDArray[np.floating],
    joints_2d: NDArray[np.floating] | None,
    hand_valid: NDArray[np.floating] | None,
    config: EncoderConfig,
) -> Crops:
    """Crop one square around the person for the whole window, and one around each hand in each frame.

    `frames`: T frames [H, W, 3] RGB, of which one is held at a time; `track` [T, 4] boxes x0 y0 x1 y1 in pixels, NaN if
    not visible; `joints_2d` [T, 52, 3] x, y, confidence in pixels, of a fitted or true body (not landmarks, around
    which crops would be smaller); `hand_valid` [T, 2], 1 = usable. The last two are None if unknown. Hands are not
    cropped if `config.hands` is False. Raises `ValueError` if the person is never visible.
    """
    length, square = len(track), body_square(track)
    body = black(length, 3, config.body_size, config.body_size)
    hands = black(length, 2, 3, config.hand_size, config.hand_size)
    hand_ok = torch.zeros(length, 2, dtype=torch.bool)
    boxes = torch.tensor([0.0, 0.0, 1.0]).repeat(length, 2, 1)
    followed: list[dict[int, Square]] = []
    for t, frame in enumerate(frames):
        picture = torch.from_numpy(np.ascontiguousarray(frame)).permute(2, 0, 1)  # [3, H, W]
        if t == 0 and config.hands and joints_2d is not None and hand_valid is not None:
            followed = hand_squares(joints_2d, hand_valid, *picture.shape[1:])
        body[t] = square.cut(picture, config.body_size)
        for hand, squares in enumerate(followed):
            if t in squares:
                hands[t, hand] = squares[t].cut(picture, config.hand_size)
                hand_ok[t, hand] = True
                boxes[t, hand] = torch.tensor(squares[t].within(square))
    return Crops(body, hands, hand_ok, boxes)


def black(*shape: int) -> Tensor:
    """Return zeros of type uint8; by numpy, which takes huge pages: faults of small ones take a sixth of the time."""
    return torch.from_numpy(np.zeros(shape, np.uint8))


def body_square(track: NDArray[np.floating]) -> Square:
    """Return the square around all boxes [T, 4] of a window. Raises `ValueError` if there are none."""
    if not np.isfinite(track).all(axis=1).any():
        raise ValueError("the person is visible in no frame of the driving window: its track has no boxes")
    low, high = np.nanmin(track[:, :2], axis=0), np.nanmax(track[:, 2:], axis=0)
    return Square.around((low + high) / 2, max(BODY_MARGIN * float((high - low).max()), 2.0))


def hand_squares(
    joints_2d: NDArray[np.floating], hand_valid: NDArray[np.floating], height: int, width: int
) -> list[dict[int, Square]]:
    """Return, for the left and the right hand, squares of one size by frame index.

    Only frames are included in which the hand is labelled and its centre lies within the frame.
    """
    squares: list[dict[int, Square]] = []
    for hand, joints in enumerate(HAND_JOINTS):
        points = joints_2d[:, joints, :2]  # [T, 16, 2]
        low, high = points.min(axis=1), points.max(axis=1)  # [T, 2], NaN if a joint is NaN
        centre = (low + high) / 2
        inside = ((centre >= 0) & (centre < (width, height))).all(axis=1)
        visible = np.flatnonzero(inside & (np.asarray(hand_valid)[:, hand] > 0.5))
        side = max(HAND_MARGIN * float((high - low)[visible].max(initial=0)), 2.0)
        squares.append({int(t): Square.around(centre[t], side) for t in visible})
    return squares
