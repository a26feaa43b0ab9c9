"""Videos longer than a model was trained on: overlapping windows of latent frames, each sampled as a clip of its own.

At every step the velocities of the windows are averaged where they overlap (MultiDiffusion, arXiv 2302.08113, along
time), so that one long video comes out rather than clips one after another. The first latent frame of a window from
s > 0 encodes several frames, where in training it was frame 0 alone; its weight is the least.
"""

import torch
from torch import Tensor

Span = tuple[int, int]
"""Latent frames [start, stop)."""


def windows(length: int, size: int, overlap: int) -> list[Span]:
    """Spans [start, stop) of `size` that cover [0, length), neighbours sharing at least `overlap`; one where it fits.

    Spans are spread evenly, so that the last overlap is no larger than it must be. Raises `ValueError` where `overlap`
    is not in 1..size - 1, or nothing is to be covered.
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
    """Weight of each frame of each span, [size] each: triangular, and together 1 at every frame."""
    total = torch.zeros(max(stop for _, stop in spans))
    triangles = [_triangle(stop - start) for start, stop in spans]
    for (start, stop), triangle in zip(spans, triangles, strict=True):
        total[start:stop] += triangle
    return [triangle / total[start:stop] for (start, stop), triangle in zip(spans, triangles, strict=True)]


def frames_of(span: Span, stride: int) -> slice:
    """The frames that a window of latent frames stands for when it is a clip of its own: stride (size - 1) + 1, from
    the last frame that its first latent frame encodes."""
    start, stop = span
    return slice(stride * start, stride * (stop - 1) + 1)


def _triangle(size: int) -> Tensor:
    rising = torch.arange(1, size + 1)
    return torch.minimum(rising, rising.flip(0)).float()
