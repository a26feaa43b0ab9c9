"""Boxes of people, and scores computed from them.

A box is x0 y0 x1 y1 in pixels; tracks hold one box per person and frame.
"""

import numpy as np
from numpy.typing import NDArray

Box = NDArray[np.float32]  # [4]
Tracks = NDArray[np.float32]  # [P, T, 4], NaN where a person is not visible

COUNTED = 0.5
"""Minimum size of a counted person as a share of the main person's size; smaller ones are bystanders."""


def overlap(a: Box, b: Box) -> float:
    """Return the intersection of two boxes over the area of the smaller one, 0 to 1."""
    return _shared(a, b) / min(_area(a), _area(b))


def iou(a: Box, b: Box) -> float:
    """Return the intersection over union of two boxes, 0 to 1."""
    shared = _shared(a, b)
    return shared / (_area(a) + _area(b) - shared)


def main_person(tracks: Tracks) -> int | None:
    """Return the index of the person with the largest total area times presence in `tracks` [P, T, 4].

    None if nobody is visible.
    """
    if not len(tracks):
        return None
    sizes = tracks[..., 2:] - tracks[..., :2]  # [P, T, 2]
    area = np.nansum(sizes.prod(-1), axis=1)
    presence = np.isfinite(tracks[..., 0]).mean(1)
    weight = area * presence
    return int(weight.argmax()) if weight.max() > 0 else None


def people_counts(tracks: Tracks, main: int) -> NDArray[np.int64]:
    """Return the number of people per frame [T] who are at least half as large as person `main`.

    `tracks` [P, T, 4]. Size is the square root of the box area, compared with the main person's median size. Unlike
    height, it hardly changes when the main person bends down or crouches, so bystanders are not counted then.
    """
    sizes = np.sqrt((tracks[..., 2:] - tracks[..., :2]).prod(-1))  # [P, T]
    with np.errstate(invalid="ignore"):
        counted = sizes >= COUNTED * np.nanmedian(sizes[main])
    counted[main] = np.isfinite(sizes[main])
    return np.asarray(counted.sum(0), np.int64)


def occlusion(tracks: Tracks, main: int) -> float:
    """Return how much other people's boxes cover the box of person `main`, 0 to 1.

    This is the largest covered share by one other person, averaged over the frames of `tracks` [P, T, 4] with `main`.
    """
    main_boxes, others = tracks[main], np.delete(tracks, main, axis=0)
    visible = np.isfinite(main_boxes[:, 0])
    if not len(others) or not visible.any():
        return 0.0
    low, high = (
        np.maximum(main_boxes[..., :2], others[..., :2]),
        np.minimum(main_boxes[..., 2:], others[..., 2:]),
    )  # [P - 1, T, 2]
    shared = np.nan_to_num(np.clip(high - low, 0, None).prod(-1))
    return float((shared.max(0)[visible] / (main_boxes[visible, 2:] - main_boxes[visible, :2]).prod(-1)).mean())


def _area(box: Box) -> float:
    return float((box[2] - box[0]) * (box[3] - box[1]))


def _shared(a: Box, b: Box) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    return float(max(width, 0) * max(height, 0))
