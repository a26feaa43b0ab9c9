"""The generator on HunyuanVideo-1.5 against the base model it extends: the same class, weights and tokens.

The base receives text only, without ByT5 and image tokens. It masks padding with dense masks.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import HunyuanVideo15ImageToVideoPipeline, HunyuanVideo15Transformer3DModel
from PIL import Image
from torch.nn.functional import scaled_dot_product_attention

from opendimo.model.backbones.hunyuan import HunyuanMotionTransformer3DModel
from opendimo.model.dimo import DiMo
from opendimo.model.vae import encode

Make = Callable[..., DiMo]
Inputs = dict[str, Any]
TOKENS = 16 * 16  # tokens per latent frame
lengths = pytest.mark.parametrize("lengths", [(12, 12), (12, 7), (5, 9)])


@pytest.fixture(scope="module")
def pipeline(tiny_bases: dict[str, Path]) -> HunyuanVideo15ImageToVideoPipeline:
    absent = dict.fromkeys(("text_encoder_2", "tokenizer_2", "image_encoder", "feature_extractor"))
    return HunyuanVideo15ImageToVideoPipeline.from_pretrained(tiny_bases["hunyuan"], **absent)


@pytest.fixture(scope="module")
def base(pipeline: HunyuanVideo15ImageToVideoPipeline) -> HunyuanVideo15Transformer3DModel:
    return pipeline.transformer.eval()


def of_base(
    base: HunyuanVideo15Transformer3DModel, inputs: Inputs, latents: torch.Tensor, condition: torch.Tensor
) -> torch.Tensor:
    nothing = torch.zeros(2, 0, 8)
    with torch.no_grad():
        return base(
            torch.cat([latents, condition], dim=1),
            inputs["timestep"],
            inputs["encoder_hidden_states"],
            inputs["encoder_attention_mask"],
            encoder_hidden_states_2=nothing,
            encoder_attention_mask_2=nothing[..., 0],
            image_embeds=nothing,
            return_dict=False,
        )[0]


def with_lengths(inputs: Inputs, lengths: tuple[int, int]) -> Inputs:
    return inputs | {"encoder_attention_mask": torch.arange(12) < torch.tensor(lengths)[:, None]}


def rounding(lengths: tuple[int, int]) -> float:
    """Return the tolerance: with padding cut off, attention has fewer keys, which some kernels sum in another order."""
    return 0.0 if max(lengths) == 12 else 1e-6


@lengths
def test_at_step_zero_it_is_the_base(
    lengths: tuple[int, int], base: HunyuanVideo15Transformer3DModel, make_dimo: Make, inputs: Inputs
) -> None:
    inputs = with_lengths(inputs, lengths) | {"reference": None}
    ours = make_dimo(family="hunyuan").transformer.eval()
    expected = of_base(base, inputs, inputs["hidden_states"], torch.zeros(2, 9, 3, 16, 16))
    with torch.no_grad():
        assert (ours(**inputs).sample - expected).abs().max() <= rounding(lengths)
    assert expected.std() > 0.1


def test_first_frame_mode_is_the_image_to_video_form_of_the_base(
    pipeline: HunyuanVideo15ImageToVideoPipeline, make_dimo: Make, inputs: Inputs
) -> None:
    """The condition is computed by diffusers' own pipeline; latent frame 0 stays noisy and is predicted."""
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8))
    condition = pipeline.prepare_cond_latents_and_mask(
        inputs["hidden_states"], image, 2, 64, 64, torch.float32, torch.device("cpu")
    )
    expected = of_base(pipeline.transformer, inputs, inputs["hidden_states"], torch.cat(condition, dim=1))
    ours = make_dimo(family="hunyuan", reference="first_frame").transformer.eval()
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None, :, None] / 255
    with torch.no_grad():
        reference = encode(pipeline.vae, pixels).expand(2, -1, -1, -1, -1)
        given = ours(**inputs | {"reference": reference}).sample
    torch.testing.assert_close(given, expected, rtol=1e-5, atol=1e-5)  # the reference is equal but for its last bit
    assert not ours.first_frame_is_given


@lengths
def test_prefix_mode_is_the_base_with_the_reference_in_front(
    lengths: tuple[int, int], base: HunyuanVideo15Transformer3DModel, make_dimo: Make, inputs: Inputs
) -> None:
    inputs = with_lengths(inputs, lengths)
    condition = torch.zeros(2, 9, 4, 16, 16)
    condition[:, :8, :1] = inputs["reference"]
    condition[:, 8, 0] = 1
    longer = torch.cat([inputs["reference"], inputs["hidden_states"]], dim=2)
    expected = of_base(base, inputs, longer, condition)[:, :, 1:]
    ours = make_dimo(family="hunyuan").transformer.eval()
    with torch.no_grad():
        assert (ours(**inputs).sample - expected).abs().max() <= rounding(lengths)


def test_what_stands_in_padding_and_how_much_of_it_there_is_changes_nothing(make_dimo: Make, inputs: Inputs) -> None:
    ours = make_dimo(family="hunyuan", trained=True).transformer.eval()
    longer = {
        name: torch.cat([inputs[name], torch.zeros_like(inputs[name])], dim=1)
        for name in ("encoder_hidden_states", "encoder_attention_mask")
    }
    other = inputs["encoder_hidden_states"].clone()
    other[1, 7:] = 100
    with torch.no_grad():
        out = ours(**inputs).sample
        assert torch.equal(ours(**inputs | longer).sample, out)
        assert torch.equal(ours(**inputs | {"encoder_hidden_states": other}).sample, out)
        assert not torch.equal(
            ours(**inputs | {"encoder_hidden_states": inputs["encoder_hidden_states"].flip(1)}).sample, out
        )


@pytest.mark.parametrize(
    ("lengths", "masks"), [((9, 9), {None}), ((12, 7), {(2, 4, 1, 12), (2, 1, 1, 4 * TOKENS + 12)})]
)
def test_no_mask_is_dense(
    lengths: tuple[int, int],
    masks: set[Any],
    make_dimo: Make,
    inputs: Inputs,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Check the shapes of the masks of the text refiner and of the blocks."""
    mask_shapes = set()

    def watched(*args: Any, attn_mask: torch.Tensor | None = None, **kwargs: Any) -> torch.Tensor:
        mask_shapes.add(None if attn_mask is None else tuple(attn_mask.shape))
        return scaled_dot_product_attention(*args, attn_mask=attn_mask, **kwargs)

    transformer = make_dimo(family="hunyuan").transformer
    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", watched)
    with torch.no_grad():
        transformer(**with_lengths(inputs, lengths) | {"motion": None})
    assert mask_shapes == masks


@pytest.mark.parametrize("change", [{"use_meanflow": True}, {"in_channels": 32}])
def test_a_base_of_another_form_is_refused(change: dict[str, Any]) -> None:
    with torch.device("meta"), pytest.raises(ValueError, match="noisy latents, a condition and its mask"):
        HunyuanMotionTransformer3DModel(num_layers=1, **change)
