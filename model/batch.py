"""What goes into a training step of the model and what comes out of it."""

from dataclasses import dataclass, fields
from typing import NamedTuple, Self

import torch
from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """Pairs of driving frames and target latents. B samples, T = 4k + 1 frames, L = k + 1 latent frames."""

    target: Tensor  # [B, C, L, h, w] clean normalised latents
    reference: Tensor  # [B, C, 1, h, w] clean normalised latents of the reference image
    text: Tensor  # [B, n, D] text embeddings, padded with zeros
    body: Tensor  # [B, T, 3, S, S] driving crops of the person, RGB in [0, 1]
    hands: Tensor  # [B, T, 2, 3, s, s] driving crops of the left and the right hand
    hand_ok: Tensor  # [B, T, 2] bool, the hand is seen
    body6d: Tensor  # [B, T, 21, 6] pose labels, any value where not ok
    hands6d: Tensor  # [B, T, 2, 15, 6]
    pose_ok: Tensor  # [B, T] bool
    hands_pose_ok: Tensor  # [B, T, 2] bool
    weight: Tensor  # [B] quality of the pose labels, in [0, 1]

    def to(self, device: torch.device | str) -> Self:
        """The same batch on another device."""
        return type(self)(**{f.name: getattr(self, f.name).to(device, non_blocking=True) for f in fields(self)})


class Prediction(NamedTuple):
    """Velocity [B, C, L, h, w], and the poses read from the motion tokens where there is a geometry head."""

    velocity: Tensor
    body6d: Tensor | None
    hands6d: Tensor | None
