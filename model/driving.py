"""Driving crops: what the motion encoder sees of a driving clip.

Crops keep one size over a window, so that moving in place and opening a hand are seen as motion rather than as zoom.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.transforms.v2.functional import resized_crop

BODY_MARGIN, HAND_MARGIN = 1.1, 1.5
"""Side of the square over the extent of what it shows."""
HAND_JOINTS = (20, *range(22, 37)), (21, *range(37, 52))
"""Wrist and fingers of the left and the right hand among the 52 joints."""


def body_crops(frames: NDArray[np.uint8], track: NDArray[np.floating], size: int = 256) -> Tensor:
    """One square around the person for the whole window.

    `frames` [T, H, W, 3] RGB, `track` [T, 4] boxes x0 y0 x1 y1 in pixels, NaN where unseen. Returns [T, 3, size, size]
    in [0, 1], black outside of the frame. ValueError when the person is never seen.
    """
    if not np.isfinite(track).all(axis=1).any():
        raise ValueError("the person is in no frame of the driving window: the track is empty there")
    low, high = np.nanmin(track[:, :2], axis=0), np.nanmax(track[:, 2:], axis=0)
    side = max(BODY_MARGIN * float((high - low).max()), 2.0)
    return _crop(torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2), (low + high) / 2, side, size)


def hand_crops(
    frames: NDArray[np.uint8], joints_2d: NDArray[np.floating], hand_valid: NDArray[np.floating], size: int = 128
) -> tuple[Tensor, Tensor]:
    """A square around each hand in each frame.

    `frames` [T, H, W, 3] RGB, `joints_2d` [T, 52, 3] x, y, confidence, `hand_valid` [T, 2] 1 where usable. Returns
    crops [T, 2, 3, size, size] (left, right) in [0, 1], black where there is none, and the mask [T, 2] bool.
    """
    video = torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2)
    crops = torch.zeros(len(video), 2, 3, size, size)
    seen = np.asarray(hand_valid) > 0.5
    for hand, joints in enumerate(HAND_JOINTS):
        points = joints_2d[:, joints, :2]  # [T, 16, 2]
        seen[:, hand] &= np.isfinite(points).all(axis=(1, 2)) & _inside(points, *video.shape[-2:])
        shown = points[seen[:, hand]]
        if not len(shown):
            continue
        low, high = shown.min(axis=1), shown.max(axis=1)  # [n, 2]
        side = max(HAND_MARGIN * float((high - low).max()), 2.0)
        for frame, centre in zip(np.flatnonzero(seen[:, hand]), (low + high) / 2, strict=True):
            crops[frame, hand] = _crop(video[frame], centre, side, size)
    return crops, torch.from_numpy(seen)


def _inside(points: NDArray[np.floating], height: int, width: int) -> NDArray[np.bool_]:
    """Whether the middle of the points [T, n, 2] is within the frame."""
    with np.errstate(invalid="ignore"):
        x, y = ((points.min(axis=1) + points.max(axis=1)) / 2).T
        return (x >= 0) & (x < width) & (y >= 0) & (y < height)


def _crop(frames: Tensor, centre: NDArray[np.floating], side: float, size: int) -> Tensor:
    """The square of `side` pixels around `centre` (x, y) of frames [..., 3, H, W] uint8, resized to `size`."""
    pixels = round(side)
    left, top = (round(float(c) - pixels / 2) for c in centre)
    return resized_crop(frames, top, left, pixels, pixels, [size, size], antialias=True).float() / 255
