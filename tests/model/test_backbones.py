"""Properties of the generators of both families."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from opendimo.model.backbones import GENERATORS, generator_class
from opendimo.model.backbones.inject import MotionAttnProcessor
from opendimo.model.backbones.interface import Generator
from opendimo.model.dimo import Batch, DiMo
from opendimo.model.signal import MotionTokens, Signal

Make = Callable[..., DiMo]
Inputs = dict[str, Any]
SETTINGS = {"motion_dim": 64, "motion_attention": "aligned", "reference": "prefix"}
WEIGHTS = "diffusion_pytorch_model.safetensors"
attentions = pytest.mark.parametrize("attention", ["aligned", "global"])
references = pytest.mark.parametrize("reference", ["prefix", "first_frame"])


def blocks_of(model: Any) -> torch.nn.ModuleList:
    return model.blocks if hasattr(model, "blocks") else model.transformer_blocks


def test_only_motion_is_missing_from_a_base_checkpoint(
    family: str, tiny_bases: dict[str, Path], make_dimo: Make
) -> None:
    stored = load_file(tiny_bases[family] / "transformer" / WEIGHTS)
    ours = make_dimo(family=family).transformer.state_dict()
    assert {key for key in ours if "motion" not in key} == set(stored)
    assert len(ours) > len(stored)
    assert all(torch.equal(ours[key], value) for key, value in stored.items())
    assert all(value.isfinite().all() for value in ours.values())


@pytest.mark.parametrize(
    ("change", "wrong"),
    [
        ({"proj_out.bias": None}, r"missing weights proj_out\.bias"),
        ({"blocks.9.extra": torch.zeros(1)}, r"unknown weights blocks\.9\.extra"),
        (
            {"proj_out.bias": None} | {f"extra.{n}": torch.zeros(1) for n in range(4)},
            r"missing weights proj_out\.bias; unknown weights extra\.0, extra\.1, extra\.2 and 1 more",
        ),
    ],
)
def test_a_checkpoint_of_something_else_is_refused(
    family: str, change: dict[str, torch.Tensor | None], wrong: str, tiny_bases: dict[str, Path], tmp_path: Path
) -> None:
    source = tiny_bases[family] / "transformer"
    weights = load_file(source / WEIGHTS) | change
    broken = tmp_path / "transformer"
    broken.mkdir()
    save_file({key: value for key, value in weights.items() if value is not None}, broken / WEIGHTS)
    (broken / "config.json").write_text((source / "config.json").read_text())
    with pytest.raises(ValueError, match=f"is not a complete .*: {wrong}; download it again, or choose a base model"):
        generator_class(tmp_path).from_base(broken, **SETTINGS)


def test_a_folder_without_a_known_transformer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"not a base model in the diffusers layout: .*/transformer/config\.json is missing"
    ):
        generator_class(tmp_path)
    (tmp_path / "transformer").mkdir()
    (tmp_path / "transformer" / "config.json").write_text('{"_class_name": "FluxTransformer2DModel"}')
    with pytest.raises(ValueError, match="is of unsupported class FluxTransformer2DModel; supported are"):
        generator_class(tmp_path)


@attentions
@references
def test_at_step_zero_motion_changes_nothing(
    family: str, attention: str, reference: str, make_dimo: Make, inputs: Inputs
) -> None:
    model = make_dimo(family=family, motion_attention=attention, reference=reference).transformer.eval()
    with torch.no_grad():
        given, without = model(**inputs).sample, model(**inputs | {"motion": None}).sample
    assert (given - without).abs().max() == 0.0
    assert given.shape == inputs["hidden_states"].shape and given.std() > 0.1


@attentions
@references
def test_trained_motion_changes_the_output_and_absent_motion_is_one_null(
    family: str, attention: str, reference: str, make_dimo: Make, inputs: Inputs
) -> None:
    model = make_dimo(family=family, trained=True, motion_attention=attention, reference=reference).transformer.eval()
    tokens, one = inputs["motion"].motion.tokens, torch.tensor([True, False])

    def velocity(tokens: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            return model(**inputs | {"motion": Signal(MotionTokens(tokens, one))}).sample

    changed = (velocity(tokens) - velocity(tokens.flip(0))).abs().amax((1, 2, 3, 4))
    assert changed[0] > 0.01 and changed[1] == 0.0

    before = velocity(tokens)
    torch.nn.init.ones_(model.motion_alignment.null)
    changed = (velocity(tokens) - before).abs().amax((1, 2, 3, 4))
    assert changed[0] == 0.0 and changed[1] > 0.01


def test_the_null_that_stands_for_absent_motion_is_learned(family: str, make_dimo: Make, inputs: Inputs) -> None:
    model = make_dimo(family=family, trained=True).transformer
    absent = MotionTokens(inputs["motion"].motion.tokens, torch.tensor([True, False]))
    model(**inputs | {"motion": Signal(absent)}).sample.square().mean().backward()
    assert model.motion_alignment.null.grad.abs().max() > 0


def gradients(
    model: Generator, batches: list[Inputs], checkpointing: bool
) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Return gradients of weights and of signals for one loss over all batches: all forwards precede the backward."""
    model.train()
    (model.enable_gradient_checkpointing if checkpointing else model.disable_gradient_checkpointing)()
    model.zero_grad()
    leaves, outs = [], []
    for batch in batches:
        motion = batch["motion"].motion
        tokens = motion.tokens.clone().requires_grad_()
        additions = tuple(a.clone().requires_grad_() for a in batch["motion"].additions)
        signal = Signal(MotionTokens(tokens, motion.present), additions)
        outs.append(model(**batch | {"motion": signal}).sample)
        leaves += [tokens, *additions]
    sum(out.square().mean() for out in outs).backward()
    return [p.grad.clone() for p in model.parameters() if p.grad is not None], [leaf.grad for leaf in leaves]


@attentions
@pytest.mark.parametrize("forwards", [1, 2])
def test_gradient_checkpointing_changes_no_gradient(
    family: str, forwards: int, attention: str, make_dimo: Make, inputs: Inputs
) -> None:
    """Two forwards before one backward detect a signal that is not passed as an argument of the blocks."""
    model = make_dimo(family=family, trained=True, motion_attention=attention).transformer
    motion, grid = inputs["motion"].motion, model.grid(inputs["hidden_states"])
    additions = torch.randn(2, 2, 2, grid.frames * grid.height * grid.width, grid.dim)
    batches = [
        inputs | {"motion": Signal(MotionTokens(tokens, motion.present), tuple(added))}
        for tokens, added in zip((motion.tokens, motion.tokens.flip(0, 1)), additions, strict=True)
    ][:forwards]
    runs = []
    blocks_of(model)[0].register_forward_pre_hook(lambda *_: runs.append(1))
    plain, checkpointed = gradients(model, batches, False), gradients(model, batches, True)
    assert len(runs) == 3 * forwards  # once, and again in the backward
    for a, b in zip([*plain[0], *plain[1]], [*checkpointed[0], *checkpointed[1]], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-7)
    assert all(leaf.abs().max() > 0 for leaf in plain[1])


@references
def test_additions_enter_in_front_of_their_block_and_the_reference_hears_none(
    family: str, reference: str, make_dimo: Make, inputs: Inputs
) -> None:
    model = make_dimo(family=family, reference=reference).transformer.eval()
    grid = model.grid(inputs["hidden_states"])
    additions = torch.randn(2, 2, grid.frames * grid.height * grid.width, grid.dim)
    left, entered = [], []
    blocks_of(model)[0].register_forward_hook(lambda _, __, out: left.append(out if family == "wan" else out[0]))
    blocks_of(model)[1].register_forward_pre_hook(lambda _, given: entered.append(given[0]))
    with torch.no_grad():
        model(**inputs | {"motion": Signal(additions=tuple(additions))})
    added = (entered[0] - left[0]).unflatten(1, (-1, grid.height * grid.width))  # [B, L, ., D]
    torch.testing.assert_close(added[:, -grid.frames :].flatten(1, 2), additions[1], rtol=1e-4, atol=1e-4)
    assert added.shape[1] == grid.frames + (reference == "prefix")
    assert not added[:, : -grid.frames].any()


def test_more_additions_than_blocks_are_refused(family: str, make_dimo: Make, inputs: Inputs) -> None:
    with pytest.raises(ValueError, match="additions for 5 blocks, but the generator has 4"):
        make_dimo(family=family).transformer(**inputs | {"motion": Signal(additions=(torch.zeros(1),) * 5)})


@attentions
def test_it_runs_in_half_precision(family: str, attention: str, make_dimo: Make, inputs: Inputs) -> None:
    model = make_dimo(family=family, trained=True, motion_attention=attention).transformer.eval()
    motion = inputs["motion"].motion
    half = {name: inputs[name].bfloat16() for name in ("hidden_states", "encoder_hidden_states", "reference")}
    half["motion"] = Signal(MotionTokens(motion.tokens.bfloat16(), motion.present))
    with torch.no_grad():
        whole, out = model(**inputs).sample, model.bfloat16()(**inputs | half).sample
    assert out.dtype == torch.bfloat16
    assert (out - whole).std() < 0.1 * whole.std()


def test_saved_and_loaded_it_is_the_same(family: str, tmp_path: Path, make_dimo: Make, inputs: Inputs) -> None:
    changes = {"motion_attention": "global", "reference": "first_frame"}
    model = make_dimo(family=family, trained=True, **changes).transformer.eval()
    model.save_pretrained(tmp_path / "transformer")
    loaded = generator_class(tmp_path).from_pretrained(tmp_path / "transformer")
    assert type(loaded) is type(model)
    with torch.no_grad():
        assert torch.equal(loaded(**inputs).sample, model(**inputs).sample)


@pytest.mark.parametrize(
    ("name", "billions"), [("WanTransformer3DModel", 5.00), ("HunyuanVideo15Transformer3DModel", 8.33)]
)
def test_the_defaults_are_the_full_size(name: str, billions: float) -> None:
    """Wan2.2-TI2V-5B and HunyuanVideo-1.5."""
    with torch.device("meta"):
        model = GENERATORS[name]()
    base = sum(p.numel() for key, p in model.named_parameters() if "motion" not in key)
    assert round(base / 1e9, 2) == billions


@pytest.mark.parametrize(
    "kind", [GENERATORS[name] for name in ("WanTransformer3DModel", "HunyuanVideo15Transformer3DModel")]
)
def test_an_unknown_reference_mode_is_refused(kind: type[Generator]) -> None:
    with torch.device("meta"), pytest.raises(ValueError, match="'prefix' or 'first_frame'"):
        kind(num_layers=1, reference="middle")


@attentions
def test_in_half_precision_silent_motion_changes_nothing_and_widens_nothing(
    family: str, attention: str, make_dimo: Make, make_batch: Callable[..., Batch], inputs: Inputs
) -> None:
    """Autocast computes in bfloat16 from float32 weights; additions to the tokens must stay bfloat16, too."""
    dimo = make_dimo(family=family, motion_attention=attention)
    driving, present = make_batch().driving, torch.tensor([True, True])
    dtypes: list[torch.dtype] = []
    for block in blocks_of(dimo.transformer):
        block.register_forward_pre_hook(lambda _, arguments: dtypes.append(arguments[0].dtype))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        signal = dimo.control(driving, present, dimo.transformer.grid(inputs["hidden_states"]))
        given, without = (dimo.transformer(**inputs | {"motion": value}).sample for value in (signal, None))
    assert (given - without).abs().max() == 0.0
    assert set(dtypes) == {torch.bfloat16}


def test_tokens_are_not_split_among_devices_in_the_middle_of_a_latent_frame(family: str, make_dimo: Make) -> None:
    assert make_dimo(family=family).transformer._cp_plan is None


@attentions
def test_the_attention_backends_of_diffusers_reach_the_motion_attention(
    family: str, attention: str, make_dimo: Make, inputs: Inputs
) -> None:
    model = make_dimo(family=family, trained=True, motion_attention=attention).transformer.eval()
    with torch.no_grad():
        expected = model(**inputs).sample
        try:
            model.set_attention_backend("_native_math")
            given = model(**inputs).sample
        finally:
            model.set_attention_backend("native")  # the backend of all models that have none of their own
    torch.testing.assert_close(given, expected, rtol=1e-3, atol=1e-4)
    assert {block.motion.processor._attention_backend for block in blocks_of(model)} == {"native"}


def test_the_processors_of_the_motion_attention_can_be_replaced(family: str, make_dimo: Make, inputs: Inputs) -> None:
    class Silent(MotionAttnProcessor):
        def __call__(self, attn: Any, hidden_states: torch.Tensor, motion: Any) -> torch.Tensor:
            return torch.zeros_like(hidden_states)

    model = make_dimo(family=family, trained=True).transformer.eval()
    processors = {name: Silent() if ".motion." in name else old for name, old in model.attn_processors.items()}
    assert sum(isinstance(processor, Silent) for processor in processors.values()) == len(blocks_of(model))
    model.set_attn_processor(processors)
    with torch.no_grad():
        assert torch.equal(model(**inputs).sample, model(**inputs | {"motion": None}).sample)


@pytest.mark.parametrize("kind", dict.fromkeys(GENERATORS.values()))
def test_every_block_is_built_once(kind: type[Generator], monkeypatch: pytest.MonkeyPatch) -> None:
    with torch.device("meta"):
        base = type(blocks_of(kind(num_layers=1))[0]).__base__
        build, built = base.__init__, []
        monkeypatch.setattr(base, "__init__", lambda block, *args: (built.append(block), build(block, *args))[1])
        model = kind(num_layers=3)
    assert built == [*blocks_of(model)] and model.config["num_layers"] == 3


def test_output_is_a_tuple_where_no_dict_is_asked_for(family: str, make_dimo: Make, inputs: Inputs) -> None:
    model = make_dimo(family=family).transformer.eval()
    with torch.no_grad():
        [given] = model(**inputs, return_dict=False)
        assert torch.equal(given, model(**inputs).sample)
