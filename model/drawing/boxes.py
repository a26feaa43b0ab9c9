"""List the pixels inside many boxes at once, so that small shapes can be drawn without visiting every pixel."""

from typing import NamedTuple

import torch
from torch import Tensor


class BoxPixels(NamedTuple):
    """All pixels of all boxes, box after box: index of the box [n], and column `x` and row `y` of the pixel [n]."""

    box: Tensor
    x: Tensor
    y: Tensor


def pixels_in(low: Tensor, high: Tensor, height: int, width: int) -> BoxPixels:
    """Return the pixels whose centres lie in M boxes with corners `low` and `high` [M, 2] (x, y).

    Corners are in pixels from the corner of an image of `height` x `width`. They may be infinite; a box with `high`
    below `low` is empty.
    """
    size = torch.tensor([width, height], device=low.device)
    first = torch.minimum((low - 0.5).ceil().clamp(min=0), size).long()
    last = torch.minimum((high - 0.5).floor().clamp(min=-1), size - 1).long()
    extent = (last - first + 1).clamp(min=0)  # [M, 2]
    counts = extent.prod(-1)
    box = torch.repeat_interleave(counts)
    index_in_box = torch.arange(len(box), device=box.device) - (counts.cumsum(0) - counts)[box]
    width_of_box = extent[box, 0]
    return BoxPixels(box, first[box, 0] + index_in_box % width_of_box, first[box, 1] + index_in_box // width_of_box)
