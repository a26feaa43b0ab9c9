"""Encode pixels to normalised latents and decode them, with the VAE of any supported base model.

Wan normalises each channel by the mean and standard deviation in its config (`pipelines/wan` of diffusers),
HunyuanVideo-1.5 multiplies by one scaling factor (`pipelines/hunyuan_video1_5`).
"""

from collections.abc import Mapping
from inspect import signature
from pathlib import Path
from typing import Any, NamedTuple

import torch
from diffusers.models.autoencoders.autoencoder_kl_hunyuanvideo15 import AutoencoderKLHunyuanVideo15
from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan
from torch import Tensor

from opendimo.model.base_folder import part_config
from opendimo.model.linear_vae import LinearVideoVAE

VAE = AutoencoderKLWan | AutoencoderKLHunyuanVideo15 | LinearVideoVAE
VAES: dict[str, type[VAE]] = {
    kind.__name__: kind for kind in (AutoencoderKLWan, AutoencoderKLHunyuanVideo15, LinearVideoVAE)
}
WAN_STRIDES = "scale_factor_temporal", "scale_factor_spatial"
HUNYUAN_STRIDES = "temporal_compression_ratio", "spatial_compression_ratio"


class Strides(NamedTuple):
    """Temporal and spatial compression: frames (after the first) and pixels per latent."""

    time: int
    space: int


def load_vae(base_dir: Path, dtype: torch.dtype = torch.float32) -> VAE:
    """Load the VAE of a base folder in the diffusers layout. Raises `ValueError` if missing or of unknown class."""
    name = part_config(base_dir, "vae").get("_class_name")
    if name not in VAES:
        raise ValueError(f"the VAE of {base_dir} is of unsupported class {name}; supported are {', '.join(VAES)}")
    return in_tiles(VAES[name].from_pretrained(Path(base_dir) / "vae", dtype=dtype))


def in_tiles(vae: VAE) -> VAE:
    """Enable tiling for the VAE of HunyuanVideo-1.5; undo it with `vae.disable_tiling()`. Returns `vae`.

    Without tiles it builds a dense mask of all latents against all, 9.7 GB for 121 frames of 480 x 848. diffusers'
    examples enable tiling, too, with tiles 256 pixels wide.
    """
    if isinstance(vae, AutoencoderKLHunyuanVideo15):
        vae.enable_tiling()
    return vae


def strides(config: Mapping[str, Any]) -> Strides:
    """Read the strides from the config of a VAE. Raises `ValueError` if the config does not state them."""
    name = config.get("_class_name")
    if name == AutoencoderKLWan.__name__:  # older diffusers versions did not save strides: use the class defaults
        usual = signature(AutoencoderKLWan).parameters
        config = {stride: usual[stride].default for stride in WAN_STRIDES} | dict(config)
    names = WAN_STRIDES if WAN_STRIDES[0] in config else HUNYUAN_STRIDES
    if missing := [stride for stride in names if stride not in config]:
        raise ValueError(
            f"the config of the VAE, of class {name}, lacks {' and '.join(missing)}: copy the base model again, or "
            f"choose one with {' or '.join(VAES)}"
        )
    return Strides(*(config[stride] for stride in names))


def encode(vae: VAE, video: Tensor) -> Tensor:
    """Encode RGB [B, 3, T, H, W] in [0, 1], T = 4k + 1, to normalised latents (the mode) [B, C, k + 1, h, w].

    Videos are encoded one by one, because the VAE of HunyuanVideo-1.5 does not support batches.
    """
    pixels = (2 * video - 1).to(vae.dtype)
    latents = torch.cat([vae.encode(one).latent_dist.mode() for one in pixels.split(1)])
    mean, std = _statistics(vae, latents)
    return (latents - mean) / std


def decode(vae: VAE, latents: Tensor) -> Tensor:
    """Decode normalised latents [B, C, L, h, w] to RGB [B, 3, 4L - 3, H, W], approximately in [0, 1]."""
    latents = latents.to(vae.dtype)
    mean, std = _statistics(vae, latents)
    videos = [vae.decode(one).sample for one in (latents * std + mean).split(1)]
    return torch.cat(videos) / 2 + 0.5


def _statistics(vae: VAE, like: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation of the latents, each [1, C or 1, 1, 1, 1].

    They have the device and dtype of `like`, because the VAE itself may be offloaded.
    """
    if isinstance(vae, (AutoencoderKLWan, LinearVideoVAE)):
        values = vae.config["latents_mean"], vae.config["latents_std"]
    else:
        values = [0.0], [1 / vae.config["scaling_factor"]]
    mean, std = (torch.tensor(v, device=like.device, dtype=like.dtype).view(1, -1, 1, 1, 1) for v in values)
    return mean, std
