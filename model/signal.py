"""The interface between any control and any generator: `Signal` and its parts."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor


class MotionTokens(NamedTuple):
    """Motion tokens [B, T, N, d] of each driving frame, and `present` [B] bool: False = motion is dropped."""

    tokens: Tensor
    present: Tensor


class Grid(NamedTuple):
    """Layout of a generator's video tokens: `frames` latent frames of `height` x `width` tokens of width `dim`."""

    frames: int
    height: int
    width: int
    dim: int


class Signal(NamedTuple):
    """Output of a control.

    `motion`: tokens for the generator's motion cross-attention. `scales`, `additions`: before block i the video tokens
    are multiplied by 1 + entry i of `scales`, and entry i of `additions` is added; each is [B, S, D] with S = frames x
    height x width and D = dim of the `Grid`, or None; missing entries are None. The first addition is equivalent to
    channels concatenated to the latents. `loss_weight` [B, 1, frames, height, width]: weight of the
    squared velocity error, with mean 1; valid only for samples whose target has the driver's view. `losses`: scalar
    loss terms of the control. `features` [B, T, N, d]: input of the geometry head. `rays` [B, S, 6]: through the
    video tokens from the target's camera (`model.multiview.rays`). `views`: every so many samples in a row are views of
    one moment.
    """

    motion: MotionTokens | None = None
    additions: tuple[Tensor | None, ...] = ()
    features: Tensor | None = None
    loss_weight: Tensor | None = None
    losses: dict[str, Tensor] = {}  # noqa: RUF012  # never written to
    scales: tuple[Tensor | None, ...] = ()
    rays: Tensor | None = None
    views: int = 1

    def for_generator(self, dtype: torch.dtype) -> "Signal":
        """Return the inputs of the generator in its precision, without what only training uses."""
        motion = None if self.motion is None else self.motion._replace(tokens=self.motion.tokens.to(dtype))
        changed = self.with_modulations(lambda x: x.to(dtype))
        return Signal(motion, changed.additions, scales=changed.scales, rays=self.rays, views=self.views)

    def with_modulations(self, change: Callable[[Tensor], Tensor]) -> "Signal":
        """Return a copy with changed scales and additions."""
        scales, additions = (
            tuple(None if x is None else change(x) for x in given) for given in (self.scales, self.additions)
        )
        return self._replace(scales=scales, additions=additions)
