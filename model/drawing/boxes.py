"""The pixels inside many boxes at once, so that small things can be drawn without looking at whole pictures."""

from typing import NamedTuple

import torch
from torch import Tensor


class BoxPixels(NamedTuple):
    """All pixels of all boxes, box after box: which box [n], and the pixel's column and row [n]."""

    box: Tensor
    x: Tensor
    y: Tensor


def pixels_in(low: Tensor, high: Tensor, height: int, width: int) -> BoxPixels:
    """Those whose middle lies in one of M boxes between `low` and `high` [M, 2] (x, y), in pixels counted from the
    corner of a picture of `height` x `width`. Bounds may be infinite; a box with `high` below `low` is empty."""
    size = torch.tensor([width, height], device=low.device)
    first = torch.minimum((low - 0.5).ceil().clamp(min=0), size).long()
    last = torch.minimum((high - 0.5).floor().clamp(min=-1), size - 1).long()
    extent = (last - first + 1).clamp(min=0)  # [M, 2]
    counts = extent.prod(-1)
    box = torch.repeat_interleave(counts)
    place = torch.arange(len(box), device=box.device) - (counts.cumsum(0) - counts)[box]
    across = extent[box, 0]
    return BoxPixels(box, first[box, 0] + place % across, first[box, 1] + place // across)
