"""Black bars about the picture: found on a few frames from all over a video, so that they are never encoded."""

from functools import reduce

import numpy as np
from numpy.typing import NDArray

Gray = NDArray[np.uint8]  # [H, W]
Region = tuple[int, int, int, int]  # x0 y0 x1 y1

DARK = 28  # luma; black is 16 in video range, and coding adds a little
LIT = 60  # a picture with hardly a pixel above this is dark itself and says nothing
BORDER = 0.3  # share of a content's first row that has to be lit: a bar ends in a line, a dark scene does not
UNEVEN = 0.03  # how much the two bars may differ, over the side
LEAST = 0.015  # thinner bars are left in
MOST = 0.35  # a thicker bar is part of the picture


def kept_region(frames: list[Gray]) -> Region | None:
    """The part of the picture inside its bars, with even borders; None where there are none.

    `frames` [H, W] are upright. Bars are black in every frame, lie on two opposite sides, about equally thick, and
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
    """Share of the picture covered by rows and columns at its borders that are black, 0 to 1."""
    dark_rows, dark_columns = (_percentile_line(gray, axis) <= DARK for axis in (1, 0))
    height, width = gray.shape
    inner_height = height - _run(dark_rows) - _run(dark_rows[::-1])
    inner_width = width - _run(dark_columns) - _run(dark_columns[::-1])
    return 1 - max(0, inner_height) * max(0, inner_width) / (height * width)


def _bars(picture: Gray) -> tuple[int, int]:
    """Thickness of the bars above and below in `picture` [h, w]; 0 where there are not two."""
    lines = _percentile_line(picture, 1) > DARK
    if not lines.any():
        return 0, 0
    first, last = int(lines.argmax()), len(lines) - int(lines[::-1].argmax())
    above, below = first, len(lines) - last
    even = abs(above - below) <= UNEVEN * len(lines)
    thick = LEAST * len(lines) <= min(above, below) <= max(above, below) <= MOST * len(lines)
    # coding blurs the first line
    edges = [float((picture[k] > DARK).mean()) for k in (min(first + 2, last - 1), max(last - 3, first))]
    return (above, below) if even and thick and min(edges) >= BORDER else (0, 0)


def _percentile_line(picture: Gray, axis: int) -> NDArray[np.float64]:
    """The light of each row (axis 1) or column (axis 0), but for single bright pixels."""
    return np.asarray(np.percentile(picture, 98, axis=axis))


def _run(dark: NDArray[np.bool_]) -> int:
    return len(dark) if dark.all() else int((~dark).argmax())


def _even(thickness: int) -> int:
    """Up to the next even number: half a pixel of bar is visible, half a pixel of picture is not missed."""
    return -(-thickness // 2) * 2
