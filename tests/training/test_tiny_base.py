"""The tiny base's VAE shows what it was given."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

from model.linear_vae import LinearVideoVAE
from model.vae import decode, encode, load_vae
from storage_schemas.video import encode as encode_video
from training.tiny_base import prepare_tiny_base, read_window


@pytest.fixture(scope="module")
def videos() -> list[bytes]:
    """A bright block that moves over a gradient, in three colours."""
    made = []
    for colour in ((220, 60, 40), (40, 200, 90), (240, 220, 60)):
        frames = np.empty((20, 96, 128, 3), np.uint8)
        for t in range(20):
            frames[t] = np.linspace(20, 140, 128, dtype=np.uint8)[None, :, None]
            frames[t, 20:80, 30 + 2 * t : 55 + 2 * t] = colour
        made.append(encode_video(frames, Fraction(24)))
    return made


def test_it_reconstructs_the_videos_and_normalises_their_latents(videos: list[bytes], tmp_path: Path) -> None:
    vae = load_vae(prepare_tiny_base(tmp_path / "base", videos))
    windows = torch.stack([read_window(video, 64) for video in videos]) / 2 + 0.5
    with torch.inference_mode():
        latents = encode(vae, windows)
        shown = decode(vae, latents).clamp(0, 1)
    assert latents.shape == (3, 16, 3, 16, 16)
    assert float(-10 * (shown - windows).square().mean().log10()) > 28
    assert latents.mean((0, 2, 3, 4)).numpy() == pytest.approx(np.zeros(16), abs=1e-3)
    assert latents.std((0, 2, 3, 4))[:8].numpy() == pytest.approx(np.ones(8), abs=1e-2)


def test_with_all_components_nothing_is_lost() -> None:
    vae = LinearVideoVAE(latent_channels=192)
    video = torch.rand(2, 3, 9, 8, 12, generator=torch.Generator().manual_seed(0)) * 2 - 1
    vae.fit([*video])
    with torch.inference_mode():
        torch.testing.assert_close(vae.decode(vae.encode(video).latent_dist.mode()).sample, video, atol=1e-4, rtol=0)


def test_time_is_causal() -> None:
    vae = LinearVideoVAE()
    vae.fit([torch.rand(3, 9, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1])
    video = torch.rand(1, 3, 9, 16, 16)
    changed = video.clone()
    changed[:, :, 5:] = 0
    with torch.inference_mode():
        one, other = (vae.encode(v).latent_dist.mode() for v in (video, changed))
    assert torch.equal(one[:, :, :2], other[:, :, :2]) and not torch.equal(one[:, :, 2], other[:, :, 2])


@pytest.mark.parametrize("shape", [(1, 3, 8, 16, 16), (1, 3, 9, 18, 16)])
def test_what_cannot_be_cut_in_blocks_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="multiples of 4"):
        LinearVideoVAE().encode(torch.zeros(shape))


def test_the_same_input_gives_the_same_base_and_is_not_done_twice(videos: list[bytes], tmp_path: Path) -> None:
    files = [
        prepare_tiny_base(tmp_path / name, videos) / "vae" / "diffusion_pytorch_model.safetensors"
        for name in ("one", "two")
    ]
    assert files[0].read_bytes() == files[1].read_bytes()
    before = files[0].stat().st_mtime_ns
    prepare_tiny_base(tmp_path / "one", videos)
    assert files[0].stat().st_mtime_ns == before


def test_no_videos_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="ingest clips first"):
        prepare_tiny_base(tmp_path / "base", [])
