"""The generator against the base model it extends: the same classes and weights, without motion."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from diffusers import WanTransformer3DModel
from safetensors.torch import load_file, save_file

from model.backbone import WanMotionTransformer3DModel
from model.dimo import DiMo
from model.inject import MotionTokens

SETTINGS = {"motion_dim": 64, "motion_attention": "aligned", "text_length": 64}
TOKENS = 8 * 8  # of a latent frame of 16 x 16


class Inputs(NamedTuple):
    latents: torch.Tensor
    timestep: torch.Tensor
    text: torch.Tensor
    motion: MotionTokens
    reference: torch.Tensor


@pytest.fixture
def inputs() -> Inputs:
    g = torch.Generator().manual_seed(0)
    return Inputs(
        torch.randn(2, 8, 3, 16, 16, generator=g),
        torch.tensor([900.0, 300.0]),
        torch.randn(2, 64, 32, generator=g),
        MotionTokens(torch.randn(2, 9, 15, 64, generator=g), torch.tensor([True, True])),
        torch.randn(2, 8, 1, 16, 16, generator=g),
    )


@pytest.fixture(scope="module")
def base(tiny_base: Path) -> WanTransformer3DModel:
    return WanTransformer3DModel.from_pretrained(tiny_base / "transformer")


def test_only_motion_is_missing_from_a_base_checkpoint(tiny_base: Path, make_dimo: Callable[..., DiMo]) -> None:
    stored = load_file(tiny_base / "transformer" / "diffusion_pytorch_model.safetensors")
    ours = make_dimo().transformer.state_dict()
    assert {key for key in ours if "motion" not in key} == set(stored)
    assert len(ours) > len(stored)
    assert all(torch.equal(ours[key], value) for key, value in stored.items())
    assert all(value.isfinite().all() for value in ours.values())


@pytest.mark.parametrize("change", [{"proj_out.bias": None}, {"blocks.9.extra": torch.zeros(1)}])
def test_a_checkpoint_of_something_else_is_refused(
    change: dict[str, torch.Tensor | None], tiny_base: Path, tmp_path: Path
) -> None:
    source = tiny_base / "transformer"
    weights = load_file(source / "diffusion_pytorch_model.safetensors") | change
    kept = {key: value for key, value in weights.items() if value is not None}
    save_file(kept, tmp_path / "diffusion_pytorch_model.safetensors")
    (tmp_path / "config.json").write_text((source / "config.json").read_text())
    with pytest.raises(ValueError, match=next(iter(change))):
        WanMotionTransformer3DModel.from_base(tmp_path, reference="prefix", **SETTINGS)


@pytest.mark.parametrize("attention", ["aligned", "global"])
def test_at_step_zero_motion_changes_nothing(
    attention: str, base: WanTransformer3DModel, make_dimo: Callable[..., DiMo], inputs: Inputs
) -> None:
    ours = make_dimo(motion_attention=attention).transformer.eval()
    with torch.no_grad():
        expected = base(inputs.latents, inputs.timestep, inputs.text, return_dict=False)[0]
        given = ours(inputs.latents, inputs.timestep, inputs.text, inputs.motion)
    assert (given - expected).abs().max() == 0.0
    assert expected.std() > 0.1


def test_first_frame_mode_is_the_base_with_a_clean_first_latent(
    base: WanTransformer3DModel, make_dimo: Callable[..., DiMo], inputs: Inputs
) -> None:
    """As diffusers' image-to-video pipeline calls Wan2.2-TI2V-5B (`expand_timesteps`)."""
    mask = torch.ones(1, 1, 3, 16, 16)
    mask[:, :, 0] = 0
    latents = (1 - mask) * inputs.reference + mask * inputs.latents
    timesteps = torch.stack([(mask[0, 0, :, ::2, ::2] * t).flatten() for t in inputs.timestep])
    ours = make_dimo(reference="first_frame").transformer.eval()
    with torch.no_grad():
        expected = base(latents, timesteps, inputs.text, return_dict=False)[0]
        given = ours(*inputs)
    assert (given - expected).abs().max() == 0.0


def test_prefix_mode_is_the_base_with_a_clean_latent_in_front(
    base: WanTransformer3DModel, make_dimo: Callable[..., DiMo], inputs: Inputs
) -> None:
    timesteps = inputs.timestep[:, None].repeat(1, 4 * TOKENS)
    timesteps[:, :TOKENS] = 0
    with torch.no_grad():
        longer = torch.cat([inputs.reference, inputs.latents], dim=2)
        expected = base(longer, timesteps, inputs.text, return_dict=False)[0][:, :, 1:]
        given = make_dimo().transformer.eval()(*inputs)
    assert given.shape == inputs.latents.shape
    assert (given - expected).abs().max() == 0.0


@pytest.mark.parametrize("reference", ["prefix", "first_frame"])
def test_trained_motion_changes_the_output_and_absent_motion_does_not(
    reference: str, make_dimo: Callable[..., DiMo], inputs: Inputs
) -> None:
    ours = make_dimo(trained=True, reference=reference).transformer.eval()
    with torch.no_grad():
        without = ours(*inputs._replace(motion=None))
        present = inputs.motion._replace(present=torch.tensor([True, False]))
        one = ours(*inputs._replace(motion=present))
    assert (one[0] - without[0]).abs().max() > 0.01
    assert (one[1] - without[1]).abs().max() == 0.0


def gradients(
    model: WanMotionTransformer3DModel, batches: list[Inputs], checkpointing: bool
) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Of weights and of motion tokens, for a loss over all batches at once: every forward precedes the backward."""
    model.train()
    (model.enable_gradient_checkpointing if checkpointing else model.disable_gradient_checkpointing)()
    model.zero_grad()
    tokens = [batch.motion.tokens.clone().requires_grad_() for batch in batches]
    outs = [
        model(*batch._replace(motion=MotionTokens(z, batch.motion.present)))
        for batch, z in zip(batches, tokens, strict=True)
    ]
    sum(out.square().mean() for out in outs).backward()
    return [p.grad.clone() for p in model.parameters()], [z.grad for z in tokens]


@pytest.mark.parametrize("attention", ["aligned", "global"])
@pytest.mark.parametrize("forwards", [1, 2])
def test_gradient_checkpointing_changes_no_gradient(
    forwards: int, attention: str, make_dimo: Callable[..., DiMo], inputs: Inputs
) -> None:
    """Two forwards before one backward is where tokens kept outside of the arguments are lost."""
    model = make_dimo(trained=True, motion_attention=attention).transformer
    other = inputs._replace(motion=MotionTokens(inputs.motion.tokens.flip(0, 1), inputs.motion.present))
    batches = [inputs, other][:forwards]
    plain, checkpointed = gradients(model, batches, False), gradients(model, batches, True)
    for a, b in zip([*plain[0], *plain[1]], [*checkpointed[0], *checkpointed[1]], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-7)
    assert all(z.abs().max() > 0 for z in plain[1])


def test_text_is_padded_as_the_base_was_trained(make_dimo: Callable[..., DiMo], inputs: Inputs) -> None:
    model = make_dimo().transformer.eval()
    padded = inputs.text.clone()
    padded[:, 10:] = 0
    with torch.no_grad():
        short = model(*inputs._replace(text=inputs.text[:, :10]))
        assert torch.equal(short, model(*inputs._replace(text=padded)))
    with pytest.raises(ValueError, match="65 tokens, at most 64"):
        model(*inputs._replace(text=torch.zeros(2, 65, 32)))


def test_saved_and_loaded_it_is_the_same(tmp_path: Path, make_dimo: Callable[..., DiMo], inputs: Inputs) -> None:
    model = make_dimo(trained=True, motion_attention="global", reference="first_frame").transformer.eval()
    model.save_pretrained(tmp_path)
    with torch.no_grad():
        assert torch.equal(WanMotionTransformer3DModel.from_pretrained(tmp_path)(*inputs), model(*inputs))


def test_the_defaults_are_the_shape_of_wan_2_2_ti2v_5b() -> None:
    with torch.device("meta"):
        model = WanMotionTransformer3DModel()
        base = sum(p.numel() for name, p in model.named_parameters() if "motion" not in name)
    assert base == pytest.approx(5.0e9, rel=0.01)


def test_an_unknown_reference_mode_is_refused() -> None:
    with pytest.raises(ValueError, match="'prefix' or 'first_frame'"):
        WanMotionTransformer3DModel(num_layers=1, num_attention_heads=1, ffn_dim=8, reference="middle")
