"""A tiny base model whose VAE has seen some video, so that its latents mean something; for demos and tests."""

import json
import os
import shutil
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan
from torch import Tensor

from model.tiny import make_tiny_base
from storage_schemas.ids import sha256_bytes, stable_id
from storage_schemas.video import centre_crop, frames
from training.thumbnails import start_as_thumbnails

SIZE, FRAMES, FRAME_STEP = 64, 9, 2
MAX_VIDEOS = 24
LEARNING_RATE = 2e-4  # ten times as much destroys the start
RECIPE = "2"  # raise it when another model comes out of the same input


def prepare_tiny_base(out: Path, videos: list[bytes], *, steps: int = 70, seed: int = 0) -> Path:
    """Write a tiny base model to `out`, its VAE trained for `steps` on windows of `videos`; return `out`.

    Deterministic, whole or not at all, and not done again for the same input. Raises `ValueError` where there is no
    video to learn from.
    """
    out = Path(out)
    made_of = stable_id(RECIPE, steps, seed, [sha256_bytes(video) for video in videos])
    marker = out / "made_of.json"
    if marker.exists() and json.loads(marker.read_text()) == made_of:
        return out
    if not videos:
        raise ValueError("no videos to train the tiny VAE on: ingest clips first")
    part = out.with_name(f".{out.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    make_tiny_base(part, seed)
    chosen = [videos[i] for i in np.linspace(0, len(videos) - 1, min(len(videos), MAX_VIDEOS)).astype(int)]
    vae = train_vae(AutoencoderKLWan.from_pretrained(part / "vae"), [read_window(v) for v in chosen], steps, seed)
    vae.save_pretrained(part / "vae")
    (part / marker.name).write_text(json.dumps(made_of))
    shutil.rmtree(out, ignore_errors=True)
    os.replace(part, out)
    return out


def train_vae(vae: AutoencoderKLWan, windows: list[Tensor], steps: int, seed: int) -> AutoencoderKLWan:
    """Train on windows [3, T, H, W] in [-1, 1], then set the statistics of the latents in the config.

    Most steps see single frames, which cost a fraction of a window; the last seventh sees windows.
    """
    start_as_thumbnails(vae)
    generator = torch.Generator().manual_seed(seed)
    videos = torch.stack(windows)  # [V, 3, T, H, W]
    optimizer = torch.optim.AdamW(vae.parameters(), lr=LEARNING_RATE, weight_decay=0.0, betas=(0.9, 0.95))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps, pct_start=0.1)
    for step in range(steps):
        if step < steps * 6 / 7:
            which = torch.randint(len(videos), (4,), generator=generator)
            frame = torch.randint(videos.shape[2], (4,), generator=generator)
            batch = videos[which, :, frame][:, :, None]  # [4, 3, 1, H, W]
        else:
            batch = videos[torch.randint(len(videos), (2,), generator=generator)]
        loss = (vae.decode(vae.encode(batch).latent_dist.mode()).sample - batch).abs().mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    with torch.inference_mode():
        latents = vae.encode(videos[:8]).latent_dist.mode()  # [V, C, L, h, w]
    flat = latents.transpose(0, 1).flatten(1)  # [C, N]
    vae.register_to_config(latents_mean=flat.mean(1).tolist(), latents_std=flat.std(1).clamp(min=1e-3).tolist())
    return vae


def read_window(video: bytes) -> Tensor:
    """The first window of a video (of its first frames again where it is short), [3, T, H, W] in [-1, 1]."""
    seen = np.stack(list(islice(frames(video), 0, (FRAMES - 1) * FRAME_STEP + 1, FRAME_STEP)))
    window = centre_crop(seen, SIZE, SIZE)[np.arange(FRAMES) % len(seen)]  # [T, H, W, 3]
    return torch.from_numpy(window).permute(3, 0, 1, 2).float() / 127.5 - 1
