"""Base models small enough for a CPU: the real classes with random weights, in the diffusers layout."""

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import torch
from diffusers.pipelines.pipeline_utils import DiffusionPipeline

from opendimo.model.linear_vae import LinearVideoVAE
from opendimo.model.tiny.hunyuan import tiny_hunyuan
from opendimo.model.tiny.sizes import LATENT_CHANNELS, TEXT_DIM
from opendimo.model.tiny.wan import tiny_wan

__all__ = ["FAMILIES", "LATENT_CHANNELS", "TEXT_DIM", "Family", "make_tiny_base"]

Family = Literal["wan", "hunyuan"]
FAMILIES: dict[Family, Callable[[], DiffusionPipeline]] = {"wan": tiny_wan, "hunyuan": tiny_hunyuan}


def make_tiny_base(out: Path, seed: int = 0, family: Family = "wan", vae: LinearVideoVAE | None = None) -> Path:
    """Write transformer/, vae/, text_encoder/, tokenizer/, scheduler/ and model_index.json to `out`; return `out`.

    `vae` replaces the VAE with random weights (family `wan` only). Raises `ValueError` for an unknown family.
    """
    if family not in FAMILIES:
        raise ValueError(f"unknown family {family!r}; choose one of {', '.join(FAMILIES)}")
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        pipeline = tiny_wan(vae) if vae is not None else FAMILIES[family]()
    pipeline.save_pretrained(out)
    return out
