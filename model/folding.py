"""Between driving frames and the latent frames of a causal video VAE, and silence where no motion is given."""

import torch
from torch import Tensor


def by_latent_frame(values: Tensor, latent_frames: int, stride: int) -> Tensor:
    """[B, T, ...] -> [B, L, stride, ...]: latent frame t holds frames stride (t - 1) + 1 .. stride t, and frame 0 fills
    all slots of latent frame 0.

    Raises ValueError where T is not stride (L - 1) + 1.
    """
    frames, expected = values.shape[1], stride * (latent_frames - 1) + 1
    if frames != expected:
        raise ValueError(f"{latent_frames} latent frames stand for {expected} frames, the driving has {frames}")
    lead = values[:, :1].expand(-1, stride - 1, *values.shape[2:])
    return torch.cat([lead, values], dim=1).unflatten(1, (latent_frames, stride))


def where_present(additions: Tensor, present: Tensor) -> Tensor:
    """Additions [B, S, D], zeros for samples without motion: to the generator that is no control at all."""
    return torch.where(present[:, None, None], additions, 0.0)
