"""The tiny base's VAE shows what it was given."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKLWan, WanPipeline
from training.thumbnails import start_as_thumbnails
from training.tiny_vae import prepare_tiny_base, read_window

from model.tiny import make_tiny_base
from storage_schemas.video import encode


def psnr(vae: AutoencoderKLWan, window: torch.Tensor) -> float:
    with torch.inference_mode():
        shown = vae.decode(vae.encode(window[None]).latent_dist.mode()).sample[0].clamp(-1, 1)
    return float(-10 * ((shown - window) / 2).square().mean().log10())


@pytest.fixture(scope="module")
def videos() -> list[bytes]:
    """A bright block that moves over a gradient, in three colours."""
    made = []
    for colour in ((220, 60, 40), (40, 200, 90), (240, 220, 60)):
        frames = np.empty((20, 96, 128, 3), np.uint8)
        for t in range(20):
            frames[t] = np.linspace(20, 140, 128, dtype=np.uint8)[None, :, None]
            frames[t, 20:80, 30 + 2 * t : 55 + 2 * t] = colour
        made.append(encode(frames, Fraction(24)))
    return made


def test_before_any_training_it_shows_a_blurred_video(videos: list[bytes], base: Path) -> None:
    window = read_window(videos[0])
    assert window.shape == (3, 9, 64, 64)
    vae = AutoencoderKLWan.from_pretrained(base / "vae")
    assert psnr(vae, window) < 14
    start_as_thumbnails(vae)
    assert psnr(vae, window) > 19


def test_training_adds_detail_and_sets_the_statistics(videos: list[bytes], tmp_path: Path, one_thread: None) -> None:
    out = prepare_tiny_base(tmp_path / "base", videos, steps=8)
    pipe = WanPipeline.from_pretrained(out)
    vae = AutoencoderKLWan.from_pretrained(make_tiny_base(tmp_path / "raw") / "vae")
    start_as_thumbnails(vae)
    window = read_window(videos[0])
    assert psnr(pipe.vae, window) > psnr(vae, window)

    windows = torch.stack([read_window(video) for video in videos])
    mean, std = (
        torch.tensor(v).view(1, 8, 1, 1, 1) for v in (pipe.vae.config.latents_mean, pipe.vae.config.latents_std)
    )
    with torch.inference_mode():
        latents = (pipe.vae.encode(windows).latent_dist.mode() - mean) / std
    assert latents.mean((0, 2, 3, 4)).numpy() == pytest.approx(np.zeros(8), abs=1e-3)
    assert latents.std((0, 2, 3, 4)).numpy() == pytest.approx(np.ones(8), abs=1e-2)


def test_the_same_input_gives_the_same_base_and_is_not_done_twice(
    videos: list[bytes], tmp_path: Path, one_thread: None
) -> None:
    files = [
        (prepare_tiny_base(tmp_path / name, videos, steps=2) / "vae" / "diffusion_pytorch_model.safetensors")
        for name in ("one", "two")
    ]
    assert files[0].read_bytes() == files[1].read_bytes()
    before = files[0].stat().st_mtime_ns
    prepare_tiny_base(tmp_path / "one", videos, steps=2)
    assert files[0].stat().st_mtime_ns == before
    prepare_tiny_base(tmp_path / "one", videos[:2], steps=2)
    assert files[0].read_bytes() != files[1].read_bytes()


def test_without_videos_it_says_so(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no videos"):
        prepare_tiny_base(tmp_path / "base", [])
