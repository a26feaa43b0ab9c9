"""Group driving frames by the latent frames of a causal video VAE, and mask additions where motion is absent."""

import torch
from torch import Tensor


def by_latent_frame(values: Tensor, latent_frames: int, stride: int) -> Tensor:
    """Group values of frames by latent frame: [B, T, ...] -> [B, L, stride, ...].

    Latent frame t holds frames stride (t - 1) + 1 .. stride t; frame 0 is repeated in all slots of latent frame 0.
    Raises `ValueError` if T is not stride (L - 1) + 1.
    """
    frames, expected = values.shape[1], stride * (latent_frames - 1) + 1
    if frames != expected:
        raise ValueError(f"{latent_frames} latent frames encode {expected} frames, but the driving clip has {frames}")
    lead = values[:, :1].expand(-1, stride - 1, *values.shape[2:])
    return torch.cat([lead, values], dim=1).unflatten(1, (latent_frames, stride))


def where_present(additions: Tensor, present: Tensor) -> Tensor:
    """Zero the additions [B, S, D] of samples without motion, which disables the control for them."""
    return torch.where(present[:, None, None], additions, 0.0)
