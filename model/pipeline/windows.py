"""Windowed sampling of videos longer than the model's training clips, and of more views than fit in one pass.

The video is split into overlapping windows of latent frames, and each window is denoised like a clip. At every step the
velocities of the windows are averaged where they overlap (MultiDiffusion, arXiv 2302.08113, along time), so that the
result is one consistent video. The first latent frame of a window that starts at s > 0 encodes several frames, while
in training it encoded only frame 0; it has the lowest weight.

Views are divided into groups that are denoised together. From step to step the groups shift around the circle of views,
as in Diffuman4D (ICCV 2025), so that all views become consistent with each other, and all have the same noise level.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from opendimo.model.signal import Signal

Span = tuple[int, int]
"""Latent frames [start, stop)."""


def windows(length: int, size: int, overlap: int) -> list[Span]:
    """Return spans [start, stop) of `size` frames that cover [0, length), neighbours sharing at least `overlap` frames.

    A video that fits into one window gets one span. Spans are spread evenly, so that all overlaps are about equal.
    Raises `ValueError` if `overlap` is not in 1..size - 1, or `length` is less than 1.
    """
    if length < 1:
        raise ValueError(f"{length} latent frames cannot be covered: ask for at least one")
    if length <= size:
        return [(0, length)]
    if not 1 <= overlap < size:
        raise ValueError(f"windows of {size} latent frames cannot overlap by {overlap}: choose 1 to {size - 1}")
    steps = -(-(length - size) // (size - overlap))  # rounded up
    starts = [i * (length - size) // steps for i in range(steps + 1)]
    return [(start, start + size) for start in starts]


def window_weights(spans: list[Span]) -> list[Tensor]:
    """Return the weights [size] of the frames of each span: triangular, normalised to sum to 1 at every frame."""
    total = torch.zeros(max(stop for _, stop in spans))
    triangles = [_triangle(stop - start) for start, stop in spans]
    for (start, stop), triangle in zip(spans, triangles, strict=True):
        total[start:stop] += triangle
    return [triangle / total[start:stop] for (start, stop), triangle in zip(spans, triangles, strict=True)]


class GridWindow(NamedTuple):
    """A window of the grid of videos and latent frames; `weights` [videos, frames] of its velocities."""

    videos: list[int]
    span: Span
    weights: Tensor


class Window(NamedTuple):
    """A window that can be denoised: the weights of its velocities [n, 1, size, 1, 1], and the control's signal for it
    with or without motion, of one sample for all of its videos or one for each."""

    videos: list[int]
    span: Span
    weights: Tensor
    signal: Callable[[bool], Signal]


def grid_windows(videos: int, length: int, together: int, size: int, overlap: int) -> list[list[GridWindow]]:
    """Return rounds of windows; step i of sampling uses round i modulo their number.

    Each round covers all `videos` and all latent frames [0, `length`), with weights that sum to 1 in every cell; a
    window has at most `together` videos and `size` frames. Spans are those of `windows`. Groups of videos are
    consecutive on a circle, and shift by half a group per round; one round if all fit into a group. Raises the
    `ValueError` of `windows`, and one if `together` is below 1.
    """
    if together < 1:
        raise ValueError(f"{together} videos at a time: take 1 or more")
    together = min(together, videos)
    spans = windows(length, size, overlap)
    shifts = range(0, together, -(-together // 2)) if together < videos else range(1)
    starts = [[shift + start for start in range(0, videos, together)] for shift in shifts]
    rounds = []
    for begins in starts:
        groups = [[(begin + k) % videos for k in range(together)] for begin in begins]
        share = 1 / torch.bincount(torch.tensor(groups).flatten(), minlength=videos)  # [videos]
        rounds.append(
            [
                GridWindow(group, span, share[group][:, None] * weights)
                for group in groups
                for span, weights in zip(spans, window_weights(spans), strict=True)
            ]
        )
    return rounds


def frames_of(span: Span, stride: int) -> slice:
    """Return the video frames of a window of latent frames that is treated as a separate clip.

    These are stride (size - 1) + 1 frames, starting at the last frame that the window's first latent frame encodes.
    """
    start, stop = span
    return slice(stride * start, stride * (stop - 1) + 1)


def _triangle(size: int) -> Tensor:
    rising = torch.arange(1, size + 1)
    return torch.minimum(rising, rising.flip(0)).float()
