"""A tiny base model whose VAE is fitted to given videos, so that its latents mean something; for demos and tests."""

import json
import os
import shutil
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from model.linear_vae import LinearVideoVAE
from model.tiny import make_tiny_base
from storage_schemas.ids import sha256_bytes, stable_id
from storage_schemas.video import centre_crop, frames

FRAMES, FRAME_STEP = 9, 2
MAX_VIDEOS = 24
RECIPE = "3"  # raise it when another model comes out of the same input


def prepare_tiny_base(out: Path, videos: list[bytes], *, size: int = 64, seed: int = 0) -> Path:
    """Write a tiny base model to `out`, its VAE fitted to windows of `videos`; return `out`.

    Deterministic, whole or not at all, and not done again for the same input. Raises `ValueError` where there is no
    video to fit it to.
    """
    out = Path(out)
    made_of = stable_id(RECIPE, size, seed, [sha256_bytes(video) for video in videos])
    marker = out / "made_of.json"
    if marker.exists() and json.loads(marker.read_text()) == made_of:
        return out
    if not videos:
        raise ValueError("no videos to fit the tiny VAE to: ingest clips first")
    part = out.with_name(f".{out.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    chosen = [videos[i] for i in np.linspace(0, len(videos) - 1, min(len(videos), MAX_VIDEOS)).astype(int)]
    vae = LinearVideoVAE()
    vae.fit([read_window(video, size) for video in chosen])
    make_tiny_base(part, seed, vae=vae)
    (part / marker.name).write_text(json.dumps(made_of))
    shutil.rmtree(out, ignore_errors=True)
    os.replace(part, out)
    return out


def read_window(video: bytes, size: int) -> Tensor:
    """The first window of a video (of its first frames again where it is short), [3, T, size, size] in [-1, 1]."""
    seen = np.stack(list(islice(frames(video), 0, (FRAMES - 1) * FRAME_STEP + 1, FRAME_STEP)))
    window = centre_crop(seen, size, size)[np.arange(FRAMES) % len(seen)]  # [T, H, W, 3]
    return torch.from_numpy(window).permute(3, 0, 1, 2).float() / 127.5 - 1
