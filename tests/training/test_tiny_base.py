"""The tiny base that is shipped, and the linear VAE in it."""

from pathlib import Path

import pytest
import torch

from opendimo.model.base_folder import base_folder
from opendimo.model.linear_vae import LinearVideoVAE
from opendimo.model.text import encode_prompt, load_text
from opendimo.model.vae import decode, encode, load_vae
from opendimo.storage_schemas.media.video import centre_crop
from opendimo.training.miniature.base import BaseConfig, Windows, make_base, mean_loss
from opendimo.training.miniature.lake import TARGETS, WINDOW
from opendimo.training.miniature.world import make_take
from opendimo.training.tiny_base import PRETRAINED, copy_tiny_base


@pytest.fixture(scope="module")
def windows() -> torch.Tensor:
    """Windows [N, 3, T, S, S] in [0, 1] of takes that no base has seen."""
    takes = [make_take(number, seed=1) for number in range(12)]
    frames = [centre_crop(take.views[0].frames[:WINDOW], TARGETS["limbs"], TARGETS["limbs"]) for take in takes]
    return torch.stack([torch.from_numpy(f).permute(3, 0, 1, 2) / 255 for f in frames])


def loss_of(base: Path, windows: torch.Tensor) -> float:
    """Mean loss of a base's generator on windows, with its own latents."""
    tokenizer, text_encoder = load_text(base)
    text = encode_prompt(tokenizer, text_encoder, "The camera is static.").embedding
    with torch.inference_mode():
        latents = encode(load_vae(base), windows)
    return mean_loss(
        base, Windows(latents, torch.zeros(len(windows), dtype=torch.int64), torch.arange(len(windows))), [text]
    )


def test_it_is_small_and_whole() -> None:
    files = [file for file in PRETRAINED.rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in files) < 4e6
    assert base_folder(PRETRAINED) == PRETRAINED and "apache-2.0" in (PRETRAINED / "README.md").read_text()


def test_its_vae_shows_the_world(windows: torch.Tensor) -> None:
    vae = load_vae(PRETRAINED)
    with torch.inference_mode():
        shown = decode(vae, encode(vae, windows)).clamp(0, 1)
    assert float(-10 * (shown - windows).square().mean().log10()) > 23


def test_its_generator_continues_a_first_frame(windows: torch.Tensor) -> None:
    assert loss_of(PRETRAINED, windows) < 0.3  # that of a fresh one is 2


@pytest.mark.slow
def test_the_recipe_makes_such_a_base_again(windows: torch.Tensor, tmp_path: Path) -> None:
    short = BaseConfig(world_takes=80, studio_takes=20, steps=500)
    make_base(tmp_path / "base", short)
    assert loss_of(PRETRAINED, windows) < loss_of(tmp_path / "base", windows) < 1.2


def test_a_copy_is_whole_and_not_made_twice(tmp_path: Path) -> None:
    out = copy_tiny_base(tmp_path / "base")
    names = {str(file.relative_to(PRETRAINED)) for file in PRETRAINED.rglob("*")}
    assert {str(file.relative_to(out)) for file in out.rglob("*")} == names
    (out / "note").touch()
    copy_tiny_base(out)
    assert (out / "note").exists()


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
