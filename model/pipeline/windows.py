"""Windowed sampling of videos longer than the model's training clips.

The video is split into overlapping windows of latent frames, and each window is denoised like a clip. At every step the
velocities of the windows are averaged where they overlap (MultiDiffusion, arXiv 2302.08113, along time), so that the
result is one consistent video. The first latent frame of a window that starts at s > 0 encodes several frames, while
in training it encoded only frame 0; it has the lowest weight.
"""

import torch
from torch import Tensor

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


def frames_of(span: Span, stride: int) -> slice:
    """Return the video frames of a window of latent frames that is treated as a separate clip.

    These are stride (size - 1) + 1 frames, starting at the last frame that the window's first latent frame encodes.
    """
    start, stop = span
    return slice(stride * start, stride * (stop - 1) + 1)


def _triangle(size: int) -> Tensor:
    rising = torch.arange(1, size + 1)
    return torch.minimum(rising, rising.flip(0)).float()
