"""The generator on Wan compared with the base model it extends: the same class and weights, without motion."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import WanTransformer3DModel
from torch.nn.functional import pad

from opendimo.model.backbones.wan import WanMotionTransformer3DModel
from opendimo.model.dimo import DiMo

Make = Callable[..., DiMo]
Inputs = dict[str, Any]
TOKENS = 8 * 8  # tokens per latent frame of 16 x 16


@pytest.fixture(scope="module")
def base(tiny_base: Path) -> WanTransformer3DModel:
    return WanTransformer3DModel.from_pretrained(tiny_base / "transformer")


def padded(inputs: Inputs) -> torch.Tensor:
    """Return the text padded as by diffusers' pipeline."""
    return pad(inputs["encoder_hidden_states"] * inputs["encoder_attention_mask"][..., None], (0, 0, 0, 500))


@pytest.mark.parametrize("attention", ["aligned", "global"])
def test_at_step_zero_it_is_the_base(
    attention: str, base: WanTransformer3DModel, make_dimo: Make, inputs: Inputs
) -> None:
    ours = make_dimo(motion_attention=attention).transformer.eval()
    with torch.no_grad():
        expected = base(inputs["hidden_states"], inputs["timestep"], padded(inputs), return_dict=False)[0]
        given = ours(**inputs | {"reference": None}).sample
    assert (given - expected).abs().max() == 0.0
    assert expected.std() > 0.1


def test_first_frame_mode_is_the_base_with_a_clean_first_latent(
    base: WanTransformer3DModel, make_dimo: Make, inputs: Inputs
) -> None:
    """The base is called as diffusers' image-to-video pipeline calls Wan2.2-TI2V-5B (`expand_timesteps`)."""
    mask = torch.ones(1, 1, 3, 16, 16)
    mask[:, :, 0] = 0
    latents = (1 - mask) * inputs["reference"] + mask * inputs["hidden_states"]
    timesteps = torch.stack([(mask[0, 0, :, ::2, ::2] * t).flatten() for t in inputs["timestep"]])
    ours = make_dimo(reference="first_frame").transformer.eval()
    with torch.no_grad():
        expected = base(latents, timesteps, padded(inputs), return_dict=False)[0]
        assert (ours(**inputs).sample - expected).abs().max() == 0.0
    assert ours.first_frame_is_given


def test_prefix_mode_is_the_base_with_a_clean_latent_in_front(
    base: WanTransformer3DModel, make_dimo: Make, inputs: Inputs
) -> None:
    timesteps = inputs["timestep"][:, None].repeat(1, 4 * TOKENS)
    timesteps[:, :TOKENS] = 0
    ours = make_dimo().transformer.eval()
    with torch.no_grad():
        longer = torch.cat([inputs["reference"], inputs["hidden_states"]], dim=2)
        expected = base(longer, timesteps, padded(inputs), return_dict=False)[0][:, :, 1:]
        assert (ours(**inputs).sample - expected).abs().max() == 0.0
    assert not ours.first_frame_is_given


def test_a_text_longer_than_the_base_was_trained_with_is_refused(make_dimo: Make, inputs: Inputs) -> None:
    longer = {
        "encoder_hidden_states": torch.zeros(2, 513, 32),
        "encoder_attention_mask": torch.ones(2, 513, dtype=torch.bool),
    }
    with pytest.raises(ValueError, match="513 tokens, at most 512"):
        make_dimo().transformer(**inputs | longer)


def test_a_base_with_image_embeddings_is_refused() -> None:
    with pytest.raises(ValueError, match="image_dim is 1280"):
        WanMotionTransformer3DModel(num_layers=1, num_attention_heads=1, ffn_dim=8, image_dim=1280)


def test_bases_with_conditions_in_their_channels_are_refused() -> None:
    with pytest.raises(ValueError, match="36 channels in, 16 out"), torch.device("meta"):
        WanMotionTransformer3DModel(num_layers=1, in_channels=36, out_channels=16)


def test_a_base_without_a_timestep_per_token_is_warned_of(
    tiny_base: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = {"motion_dim": 64, "motion_attention": "aligned", "reference": "prefix"}
    WanMotionTransformer3DModel.from_base(tiny_base / "transformer", **settings)
    assert not caplog.records
    shutil.copytree(tiny_base / "transformer", tmp_path / "transformer")
    (tmp_path / "model_index.json").write_text('{"_class_name": "WanPipeline"}')
    WanMotionTransformer3DModel.from_base(tmp_path / "transformer", **settings)
    assert "was not trained with a clean reference in the sequence" in caplog.text
