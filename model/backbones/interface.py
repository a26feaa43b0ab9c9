"""What all generators have in common, so that controls, training and the pipeline do not know which one they have."""

from pathlib import Path
from typing import Literal, Protocol, Self, runtime_checkable

from torch import Tensor

from model.inject import Attention
from model.signal import Grid, Signal

Reference = Literal["prefix", "first_frame"]
"""How the reference image enters: as an extra clean latent frame in front that hears nothing and is dropped from the
output, so that it may show any pose; or in the place of latent frame 0, closest to the pretrained weights."""


@runtime_checkable
class Generator(Protocol):
    """A diffusers transformer of the flow-matching kind that hears a control's `Signal`; without it, the base model.

    `width` of its video tokens; `temporal_stride`: frames that a latent frame after the first stands for;
    `first_frame_is_given`: latent frame 0 is the reference itself, so that its velocity is not predicted.
    """

    width: int
    temporal_stride: int
    first_frame_is_given: bool

    @classmethod
    def from_base(cls, path: Path, *, motion_dim: int, motion_attention: Attention, reference: Reference) -> Self:
        """The weights of a base `transformer` folder with new, silent motion modules.

        Raises ValueError when the folder lacks a weight of the base model or holds others.
        """

    def grid(self, latents: Tensor) -> Grid:
        """The video tokens that stand for latents [B, C, L, h, w], the reference's not counted."""

    def __call__(
        self,
        latents: Tensor,
        timestep: Tensor,
        text: Tensor,
        text_ok: Tensor,
        signal: Signal | None = None,
        reference: Tensor | None = None,
    ) -> Tensor:
        """Velocity [B, C, L, h, w] of noisy latents of that shape.

        `timestep` [B] in 0..1000, `text` [B, n, D] and `text_ok` [B, n] bool (False where padded), `reference` a clean
        latent frame [B, C, 1, h, w].
        """
