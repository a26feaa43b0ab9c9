import re

import pytest
import torch
from diffusers import AutoencoderKLHunyuanVideo15, AutoencoderKLWan
from hypothesis import given
from hypothesis import strategies as st

from opendimo.model.backbones.hunyuan import HunyuanMotionTransformer3DModel
from opendimo.model.backbones.wan import WanMotionTransformer3DModel
from opendimo.model.latent_geometry import LatentGeometry
from opendimo.model.vae import Strides

TI2V_5B, HUNYUAN = LatentGeometry(Strides(4, 16), 2), LatentGeometry(Strides(4, 16), 1)
sides, lengths = st.integers(-5, 2000), st.integers(-3, 300)


@pytest.mark.parametrize(
    ("geometry", "width", "latents", "tokens"),
    [(TI2V_5B, 832, (31, 30, 52), 12_090), (HUNYUAN, 848, (31, 30, 53), 49_290)],
)
def test_five_seconds_at_480p_are(geometry: LatentGeometry, width: int, latents: tuple[int, ...], tokens: int) -> None:
    assert geometry.latent_shape(121, 480, width) == latents
    assert geometry.tokens(121, 480, width) == tokens


@pytest.mark.parametrize(
    ("geometry", "message"),
    [
        (TI2V_5B, "width is 854, not a multiple of 32: take 832 or 864"),
        (HUNYUAN, "width is 854, not a multiple of 16: take 848 or 864"),
    ],
)
def test_480_x_854_is_refused_with_what_can_be(geometry: LatentGeometry, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        geometry.check(121, 480, 854)


def test_all_that_does_not_fit_is_said_at_once() -> None:
    with pytest.raises(
        ValueError, match=r"num_frames is 120, not 4 k \+ 1: take 117 or 121; height is 0, .* take 32; width is 33, .*"
    ):
        TI2V_5B.check(120, 0, 33)


@given(lengths, sides, sides)
def test_what_the_error_proposes_is_accepted(frames: int, height: int, width: int) -> None:
    try:
        TI2V_5B.check(frames, height, width)
    except ValueError as error:
        proposed = {name: int(n) for name, n in re.findall(r"(\w+) is [^;]*take (?:\d+ or )?(\d+)", str(error))}
        TI2V_5B.check(*({"num_frames": frames, "height": height, "width": width} | proposed).values())
    else:
        assert frames % 4 == 1 and height % 32 == 0 and width % 32 == 0


@given(st.integers(0, 5), st.integers(1, 4), st.integers(1, 4), st.sampled_from([1, 2]))
def test_tokens_are_as_many_as_the_patch_embedding_makes(k: int, h: int, w: int, patch: int) -> None:
    geometry = LatentGeometry(Strides(4, 8), patch)
    shape = geometry.latent_shape(4 * k + 1, h * geometry.unit, w * geometry.unit)
    embedded = torch.nn.Conv3d(1, 1, (1, patch, patch), (1, patch, patch))(torch.zeros(1, 1, *shape))
    assert geometry.tokens(4 * k + 1, h * geometry.unit, w * geometry.unit) == embedded.numel()


def test_it_is_read_off_the_parts_of_a_base() -> None:
    """The transformers' defaults are the full sizes; the stride of Wan2.2's VAE is set in its config."""
    with torch.device("meta"):
        wan = AutoencoderKLWan(base_dim=8, scale_factor_spatial=16), WanMotionTransformer3DModel(num_layers=1)
        hunyuan = AutoencoderKLHunyuanVideo15(), HunyuanMotionTransformer3DModel(num_layers=1)
    assert LatentGeometry.of(*wan) == TI2V_5B
    assert LatentGeometry.of(*hunyuan) == HUNYUAN
