"""Latents of both families are those of diffusers' own pipelines."""

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKLHunyuanVideo15, AutoencoderKLWan, WanPipeline
from diffusers.pipelines.hunyuan_video1_5.pipeline_hunyuan_video1_5_image2video import (
    HunyuanVideo15ImageProcessor,
    HunyuanVideo15ImageToVideoPipeline,
)
from PIL import Image

from opendimo.model.vae import VAE, Strides, decode, encode, load_vae, strides


def video(frames: int = 9) -> torch.Tensor:
    return torch.rand(2, 3, frames, 32, 48, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def vae(family: str, tiny_bases: dict[str, Path]) -> VAE:
    """Load a VAE whose latent statistics are not trivial."""
    vae = load_vae(tiny_bases[family])
    if family == "wan":
        vae.register_to_config(latents_mean=[0.1 * c for c in range(8)], latents_std=[0.5 + 0.1 * c for c in range(8)])
    return vae.requires_grad_(False)


def test_the_vae_is_of_the_real_class(tiny_bases: dict[str, Path]) -> None:
    assert type(load_vae(tiny_bases["wan"])) is AutoencoderKLWan
    assert type(load_vae(tiny_bases["hunyuan"])) is AutoencoderKLHunyuanVideo15


def test_shapes_follow_the_strides(vae: VAE) -> None:
    assert strides(vae.config) == Strides(4, 4)
    latents = encode(vae, video())
    assert latents.shape == (2, 8, 3, 8, 12)
    assert decode(vae, latents).shape == video().shape
    assert encode(vae, video(1)).shape == (2, 8, 1, 8, 12)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"_class_name": "AutoencoderKLWan"}, (4, 8)),  # Wan 2.1's, as older diffusers saved it
        ({"_class_name": "AutoencoderKLWan", "scale_factor_spatial": 16}, (4, 16)),
        ({"scale_factor_temporal": 4, "scale_factor_spatial": 16}, (4, 16)),
        ({"temporal_compression_ratio": 4, "spatial_compression_ratio": 16}, (4, 16)),
    ],
)
def test_strides_are_those_of_the_config_or_for_wan_of_the_class(
    config: dict[str, Any], expected: tuple[int, int]
) -> None:
    assert strides(config) == expected


@pytest.mark.parametrize(
    ("config", "missing"),
    [
        ({"_class_name": "AutoencoderKL"}, "temporal_compression_ratio and spatial_compression_ratio"),
        ({"_class_name": "AutoencoderKLHunyuanVideo15", "temporal_compression_ratio": 4}, "spatial_compression_ratio"),
        ({"scale_factor_temporal": 4}, "scale_factor_spatial"),
    ],
)
def test_a_config_that_does_not_say_its_strides_is_refused(config: dict[str, Any], missing: str) -> None:
    with pytest.raises(ValueError, match=f"of class .*, lacks {missing}: copy the base model again, or choose one"):
        strides(config)


def test_latents_are_repeatable_and_of_the_dtype_of_the_vae(vae: VAE) -> None:
    assert torch.equal(encode(vae, video()), encode(vae, video()))
    assert encode(vae.bfloat16(), video()).dtype == torch.bfloat16


def test_wan_latents_are_normalised_as_its_image_to_video_pipeline_does(tiny_bases: dict[str, Path]) -> None:
    """As in `pipeline_wan_i2v.py`: preprocess to [-1, 1], encode to the mode, subtract the mean, divide by std."""
    pipe = WanPipeline.from_pretrained(tiny_bases["wan"])
    pipe.vae.register_to_config(latents_mean=[0.1 * c for c in range(8)], latents_std=[0.5 + c for c in range(8)])
    pixels = pipe.video_processor.preprocess_video(video().transpose(1, 2))
    mean, scale = (
        torch.tensor(x).view(1, 8, 1, 1, 1) for x in ([0.1 * c for c in range(8)], [1 / (0.5 + c) for c in range(8)])
    )
    with torch.no_grad():
        expected = (pipe.vae.encode(pixels).latent_dist.mode() - mean) * scale
        torch.testing.assert_close(encode(pipe.vae, video()), expected)


def test_hunyuan_latents_are_those_of_its_image_to_video_pipeline(tiny_bases: dict[str, Path]) -> None:
    vae = load_vae(tiny_bases["hunyuan"])
    pixels = (255 * video(1)[:1]).byte()
    image = Image.fromarray(pixels[0, :, 0].permute(1, 2, 0).numpy())
    with torch.no_grad():
        expected = HunyuanVideo15ImageToVideoPipeline._get_image_latents(
            vae, HunyuanVideo15ImageProcessor(vae_scale_factor=4), image, 32, 48, torch.device("cpu")
        )
        torch.testing.assert_close(encode(vae, pixels / 255), expected)


def test_a_batch_is_its_videos(vae: VAE) -> None:
    latents = encode(vae, video())
    assert torch.equal(latents[1:], encode(vae, video()[1:]))
    assert torch.equal(decode(vae, latents)[1:], decode(vae, latents[1:]))


def test_decoding_undoes_the_normalisation(vae: VAE) -> None:
    latents = encode(vae, video())
    raw = vae.encode(2 * video()[:1] - 1).latent_dist.mode()
    torch.testing.assert_close(decode(vae, latents[:1]), vae.decode(raw).sample / 2 + 0.5, rtol=1e-4, atol=1e-4)


def test_a_folder_without_a_known_vae_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"not a base model in the diffusers layout: .*/vae/config\.json is missing"):
        load_vae(tmp_path)
    (tmp_path / "vae").mkdir()
    (tmp_path / "vae" / "config.json").write_text('{"_class_name": "AutoencoderKL"}')
    with pytest.raises(
        ValueError,
        match="is of unsupported class AutoencoderKL; supported are AutoencoderKLWan, AutoencoderKLHunyuanVideo15",
    ):
        load_vae(tmp_path)
