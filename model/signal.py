"""What a control tells the generator, whatever the control and the generator are."""

from typing import NamedTuple

from torch import Tensor


class MotionTokens(NamedTuple):
    """Motion of a clip: `tokens` [B, T, N, d] of each driving frame; `present` [B] bool, False = no motion given."""

    tokens: Tensor
    present: Tensor


class Grid(NamedTuple):
    """The video tokens of a generator: `frames` latent frames of `height` x `width` tokens of `dim` numbers."""

    frames: int
    height: int
    width: int
    dim: int


class Signal(NamedTuple):
    """What a control tells the generator.

    `motion`: tokens for the added cross-attentions. `additions`: added to the video tokens in front of block i, each
    [B, S, D] with S = frames x height x width of the `Grid`, D = its dim; the first may widen the patch embedding, as
    a concatenation of channels would. `loss_weight` [B, 1, frames, height, width] of the `Grid`: weight of the squared
    error of the velocity, of mean 1, where the target is seen as the driver is; of other samples it says nothing.
    `losses`: scalars that the control wants minimised. `features` [B, T, N, d]: what the geometry head reads.
    """

    motion: MotionTokens | None = None
    additions: tuple[Tensor, ...] = ()
    features: Tensor | None = None
    loss_weight: Tensor | None = None
    losses: dict[str, Tensor] = {}  # noqa: RUF012  # never written to
