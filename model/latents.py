"""Pixels to normalised latents and back, through a Wan VAE (`latents_mean` and `latents_std` of its config)."""

import torch
from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan
from torch import Tensor


def encode(vae: AutoencoderKLWan, video: Tensor) -> Tensor:
    """RGB [B, 3, T, H, W] in [0, 1], T = 4k + 1, to the mode of the latents [B, C, k + 1, h, w]."""
    mean, std = _statistics(vae)
    latents = vae.encode((2 * video - 1).to(vae.dtype)).latent_dist.mode()
    return (latents - mean) / std


def decode(vae: AutoencoderKLWan, latents: Tensor) -> Tensor:
    """Normalised latents [B, C, L, h, w] to RGB [B, 3, 4L - 3, H, W] in [0, 1]."""
    mean, std = _statistics(vae)
    return vae.decode(latents.to(vae.dtype) * std + mean).sample / 2 + 0.5


def _statistics(vae: AutoencoderKLWan) -> tuple[Tensor, Tensor]:
    mean, std = (
        torch.tensor(values, device=vae.device, dtype=vae.dtype).view(1, -1, 1, 1, 1)
        for values in (vae.config["latents_mean"], vae.config["latents_std"])
    )
    return mean, std
