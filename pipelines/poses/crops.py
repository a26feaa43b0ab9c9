"""Crop a person out of a clip: a window that follows the track, black outside the person's box."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

MARGIN = 0.25
"""Added to the person's box on each side, over its longer side."""
STILL = 2.0
"""The window is fixed if the union of all boxes is smaller than this many times the median box."""
SMOOTHING = 5.0
"""Standard deviation of the filter over the path of a moving window, frames."""


@dataclass(frozen=True)
class Windows:
    """One crop window per frame. `origin` [T, 2]: top left corners; `size`: width and height of all windows; `box`
    [T, 4]: the part of the frame that is not blacked out. Integer pixels of the frame; windows may extend over its
    edge, boxes do not."""

    origin: NDArray[np.int64]
    size: tuple[int, int]
    box: NDArray[np.int64]

    def cut(self, frame: NDArray[np.uint8], t: int) -> NDArray[np.uint8]:
        """Crop the window of frame `t`, [H, W, 3] -> [h, w, 3]; black outside the person's box."""
        (left, top), (x0, y0, x1, y1) = self.origin[t], self.box[t]
        window = np.zeros((self.size[1], self.size[0], 3), np.uint8)
        x0, y0 = max(x0, left), max(y0, top)
        x1, y1 = min(x1, left + self.size[0]), min(y1, top + self.size[1])
        if x1 > x0 and y1 > y0:
            window[y0 - top : y1 - top, x0 - left : x1 - left] = frame[y0:y1, x0:x1]
        return window


def follow(track: NDArray[np.floating], width: int, height: int) -> Windows:
    """Return windows that follow `track` [T, 4] (x0 y0 x1 y1, NaN where not visible) in frames of `width` x `height`.

    A landmark tracker works best in a fixed window, so the window moves only if the person does. Raises `ValueError` if
    the person is never visible.
    """
    boxes = fill(np.asarray(track, np.float64))
    margin = MARGIN * (boxes[:, 2:] - boxes[:, :2]).max(1, keepdims=True)
    low, high = boxes[:, :2] - margin, boxes[:, 2:] + margin
    frame = np.array([width, height])
    visible_boxes = np.concatenate([np.clip(low, 0, frame), np.clip(high, 0, frame)], 1)  # [T, 4]
    union_low, union_high = visible_boxes[:, :2].min(0), visible_boxes[:, 2:].max(0)
    if (union_high - union_low).max() <= STILL * np.median(high - low, axis=0).max():
        origin = np.broadcast_to(union_low, low.shape)
        size = union_high - union_low
    else:
        centre = gaussian_filter1d((low + high) / 2, SMOOTHING, axis=0, mode="nearest")
        size = 2 * np.maximum(np.abs(low - centre), np.abs(high - centre)).max(0)
        origin = centre - size / 2
    window_size = np.ceil(size).astype(int) + 1
    box = np.concatenate([np.floor(visible_boxes[:, :2]), np.ceil(visible_boxes[:, 2:])], 1).astype(np.int64)
    return Windows(np.floor(origin).astype(np.int64), (int(window_size[0]), int(window_size[1])), box)


def fill(values: NDArray[np.floating]) -> NDArray[np.float64]:
    """Replace NaN rows of `values` [T, D] by linear interpolation over time (by the nearest row at the ends).

    Raises `ValueError` if no row is finite.
    """
    known = np.flatnonzero(np.isfinite(values).all(1))
    if not len(known):
        raise ValueError("the person is visible in no frame")
    steps = np.arange(len(values))
    return np.stack([np.interp(steps, known, values[known, d]) for d in range(values.shape[1])], 1)
