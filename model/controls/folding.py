"""Between driving frames and the latent frames of a causal video VAE, and silence where no motion is given."""

import torch
from torch import Tensor

from model.signal import Grid


def by_latent_frame(values: Tensor, grid: Grid, stride: int) -> Tensor:
    """[B, T, ...] -> [B, L, stride, ...]: frame 0 fills all slots of latent frame 0, as `MotionAlignment` lays them.

    Raises ValueError where T is not stride (L - 1) + 1.
    """
    expected = stride * (grid.frames - 1) + 1
    if values.shape[1] != expected:
        raise ValueError(f"{grid.frames} latent frames stand for {expected} frames, the driving has {values.shape[1]}")
    lead = values[:, :1].expand(-1, stride - 1, *values.shape[2:])
    return torch.cat([lead, values], dim=1).unflatten(1, (grid.frames, stride))


def where_present(additions: Tensor, present: Tensor) -> Tensor:
    """Additions [B, S, D], zeros for samples without motion: to the generator that is no control at all."""
    return torch.where(present[:, None, None], additions, 0.0)
