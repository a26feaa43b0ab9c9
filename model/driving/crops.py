"""Driving crops: what the motion encoder sees of a driving clip.

Crops keep one size over a window, so that moving in place and opening a hand are seen as motion rather than as zoom.
"""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.transforms.v2.functional import crop, resize

from opendimo.model.encoder.config import EncoderConfig

BODY_MARGIN, HAND_MARGIN = 1.1, 1.5
"""Side of the square over the extent of what it shows."""
HAND_JOINTS = (20, *range(22, 37)), (21, *range(37, 52))
"""Wrist and fingers of the left and the right hand among the 52 joints."""


class Crops(NamedTuple):
    """The fields of the same names of `model.batch.Driving`, of one window."""

    body: Tensor  # [T, 3, S, S] in [0, 1], black outside of the frame
    hands: Tensor  # [T, 2, 3, s, s] left, right; black where there is none
    hand_ok: Tensor  # [T, 2] bool
    hand_boxes: Tensor  # [T, 2, 3] centre x, y and half side; the whole body crop (0, 0, 1) where there is no hand


class Square(NamedTuple):
    """A square of whole pixels."""

    left: int
    top: int
    side: int

    @classmethod
    def around(cls, centre: NDArray[np.floating], side: float) -> "Square":
        """The one nearest to that of `side` pixels around `centre` (x, y)."""
        pixels = round(side)
        left, top = (round(float(c) - pixels / 2) for c in centre)
        return cls(left, top, pixels)

    def cut(self, frames: Tensor) -> Tensor:
        """What it shows of frames [..., 3, H, W]: [..., 3, side, side], black outside of the frame."""
        return crop(frames, self.top, self.left, self.side, self.side)

    def within(self, other: "Square") -> tuple[float, float, float]:
        """Centre x, y and half side, counted in the other square, which is [-1, 1]."""
        x, y = ((2 * (a - b) + self.side) / other.side - 1 for a, b in zip(self[:2], other[:2], strict=True))
        return x, y, self.side / other.side


def driving_crops(
    frames: NDArray[np.uint8],
    track: NDArray[np.floating],
    joints_2d: NDArray[np.floating] | None,
    hand_valid: NDArray[np.floating] | None,
    config: EncoderConfig,
) -> Crops:
    """One square around the person for the whole window, and in each frame one around each hand.

    `frames` [T, H, W, 3] RGB, `track` [T, 4] boxes x0 y0 x1 y1 in pixels, NaN where unseen; `joints_2d` [T, 52, 3]
    x, y, confidence in pixels, of a body (fitted or true, not landmarks: crops around those are smaller), and
    `hand_valid` [T, 2] 1 where usable; both None where they are not known. No hands are
    looked for where `config.hands` is False. ValueError when the person is never seen.
    """
    video = torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2)  # [T, 3, H, W]
    whole = body_square(track)
    hands = torch.zeros(len(video), 2, 3, config.hand_size, config.hand_size)
    seen = torch.zeros(len(video), 2, dtype=torch.bool)
    boxes = torch.tensor([0.0, 0.0, 1.0]).repeat(len(video), 2, 1)
    if config.hands and joints_2d is not None and hand_valid is not None:
        for hand, squares in enumerate(hand_squares(joints_2d, hand_valid, *video.shape[-2:])):
            if not squares:
                continue
            at = list(squares)
            hands[at, hand] = _resized(torch.stack([s.cut(video[t]) for t, s in squares.items()]), config.hand_size)
            seen[at, hand] = True
            boxes[at, hand] = torch.tensor([square.within(whole) for square in squares.values()])
    return Crops(_resized(whole.cut(video), config.body_size), hands, seen, boxes)


def _resized(cut: Tensor, size: int) -> Tensor:
    """[T, 3, side, side] uint8 -> [T, 3, size, size] in [0, 1]."""
    return resize(cut, [size, size], antialias=True).float() / 255


def body_square(track: NDArray[np.floating]) -> Square:
    """The square around all boxes [T, 4] of a window. ValueError when there is none."""
    if not np.isfinite(track).all(axis=1).any():
        raise ValueError("the person is in no frame of the driving window: the track is empty there")
    low, high = np.nanmin(track[:, :2], axis=0), np.nanmax(track[:, 2:], axis=0)
    return Square.around((low + high) / 2, max(BODY_MARGIN * float((high - low).max()), 2.0))


def hand_squares(
    joints_2d: NDArray[np.floating], hand_valid: NDArray[np.floating], height: int, width: int
) -> list[dict[int, Square]]:
    """For the left and the right hand squares of one size by frame, where the hand is labelled and its middle within
    the frame."""
    squares: list[dict[int, Square]] = []
    for hand, joints in enumerate(HAND_JOINTS):
        points = joints_2d[:, joints, :2]  # [T, 16, 2]
        low, high = points.min(axis=1), points.max(axis=1)  # [T, 2], NaN where a joint is
        centre = (low + high) / 2
        inside = ((centre >= 0) & (centre < (width, height))).all(axis=1)
        seen = np.flatnonzero(inside & (np.asarray(hand_valid)[:, hand] > 0.5))
        side = max(HAND_MARGIN * float((high - low)[seen].max(initial=0)), 2.0)
        squares.append({int(t): Square.around(centre[t], side) for t in seen})
    return squares
