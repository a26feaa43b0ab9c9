"""Detect black bars around the picture on a few frames spread over a video, so that they are not encoded."""

from functools import reduce

import numpy as np
from numpy.typing import NDArray

Gray = NDArray[np.uint8]  # [H, W]
Region = tuple[int, int, int, int]  # x0 y0 x1 y1

DARK = 28  # luma; black is 16 in video range, and coding adds a little
LIT = 60  # luma; a frame is ignored as too dark if its 99th percentile is not above this
BORDER = 0.3  # least share of bright pixels in the first line of the content: a bar ends sharply, a dark scene does not
UNEVEN = 0.03  # largest difference in thickness of the two bars, as a share of the side
LEAST = 0.015  # thinner bars are kept; share of the side
MOST = 0.35  # a thicker bar is taken for content; share of the side


def kept_region(frames: list[Gray]) -> Region | None:
    """Return the region inside the black bars, with even coordinates; None if there are no bars.

    `frames` [H, W] are upright. Bars are black in every frame, lie on two opposite sides, are about equally thick and
    end in a straight line.
    """
    lit = [frame for frame in frames if np.percentile(frame, 99) > LIT]
    if not lit:
        return None
    brightest = reduce(np.maximum, lit)  # [H, W]
    height, width = brightest.shape
    top, bottom = _bars(brightest)
    left, right = _bars(brightest[top : height - bottom].T)
    region = (_even(left), _even(top), width - _even(right), height - _even(bottom))
    return None if region == (0, 0, width, height) else region


def bar_share(gray: Gray) -> float:
    """Return the share of the picture, 0 to 1, covered by black rows and columns at its borders."""
    dark_rows, dark_columns = (_line_brightness(gray, axis) <= DARK for axis in (1, 0))
    height, width = gray.shape
    inner_height = height - _dark_run(dark_rows) - _dark_run(dark_rows[::-1])
    inner_width = width - _dark_run(dark_columns) - _dark_run(dark_columns[::-1])
    return 1 - max(0, inner_height) * max(0, inner_width) / (height * width)


def _bars(picture: Gray) -> tuple[int, int]:
    """Return the thickness of the bars at the top and bottom of `picture` [h, w]; (0, 0) unless there are both."""
    lines = _line_brightness(picture, 1) > DARK
    if not lines.any():
        return 0, 0
    first, last = int(lines.argmax()), len(lines) - int(lines[::-1].argmax())
    above, below = first, len(lines) - last
    even = abs(above - below) <= UNEVEN * len(lines)
    thick = LEAST * len(lines) <= min(above, below) <= max(above, below) <= MOST * len(lines)
    # skip two lines: compression blurs the edge
    edges = [float((picture[k] > DARK).mean()) for k in (min(first + 2, last - 1), max(last - 3, first))]
    return (above, below) if even and thick and min(edges) >= BORDER else (0, 0)


def _line_brightness(picture: Gray, axis: int) -> NDArray[np.float64]:
    """Return the brightness of each row (axis 1) or column (axis 0): a percentile that ignores single bright pixels."""
    return np.asarray(np.percentile(picture, 98, axis=axis))


def _dark_run(dark: NDArray[np.bool_]) -> int:
    return len(dark) if dark.all() else int((~dark).argmax())


def _even(thickness: int) -> int:
    """Round up to an even number: a visible rest of a bar is worse than a lost line of the picture."""
    return -(-thickness // 2) * 2
