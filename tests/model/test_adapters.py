"""Low-rank adapters of generators."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from opendimo.model.adapters import add_adapters, has_adapters, merge_adapters
from opendimo.model.dimo import DiMo, DiMoConfig


@pytest.fixture
def base(tiny_bases: dict[str, Path], family: str) -> Path:
    return tiny_bases[family]


@pytest.fixture
def adapted(base: Path) -> DiMo:
    """A model whose adapters have an effect."""
    torch.manual_seed(0)
    model = DiMo.from_base(base, DiMoConfig.tiny())
    add_adapters(model.transformer, rank=4)
    for name, weight in model.transformer.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.1)
    return model


def test_adapters_have_no_effect_at_first_and_leave_only_motion_modules_to_train(base: Path) -> None:
    model = DiMo.from_base(base, DiMoConfig.tiny())
    names = (name for name, _ in model.transformer.named_modules())
    layer = next(name for name in names if name.endswith("to_q") and "motion" not in name)
    x = torch.randn(2, model.transformer.get_submodule(layer).in_features)
    before = model.transformer.get_submodule(layer)(x)
    add_adapters(model.transformer, rank=4)
    assert torch.equal(model.transformer.get_submodule(layer)(x), before)
    trained = {name for name, weight in model.transformer.named_parameters() if weight.requires_grad}
    assert trained == {n for n, _ in model.transformer.named_parameters() if "motion" in n or "lora_" in n}
    assert not any("motion" in name and "lora_" in name for name in trained)


def test_only_adapters_and_motion_modules_are_stored_and_fit_a_fresh_base(
    base: Path, adapted: DiMo, tmp_path: Path
) -> None:
    adapted.save(tmp_path)
    stored = [name for file in (tmp_path / "transformer").iterdir() for name in load_file(file)]
    assert stored and all("lora_" in name or "motion" in name for name in stored)
    ours, theirs = adapted.state_dict(), DiMo.load(tmp_path, base).state_dict()
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)
    with pytest.raises(ValueError, match="holds adapters of a base model: give its folder"):
        DiMo.load(tmp_path)


def test_merged_adapters_compute_the_same(base: Path, adapted: DiMo, tmp_path: Path) -> None:
    layers = [name for name, module in adapted.transformer.named_modules() if hasattr(module, "lora_A")]
    inputs = {name: torch.randn(2, adapted.transformer.get_submodule(name).in_features) for name in layers}
    expected = {name: adapted.transformer.get_submodule(name)(x) for name, x in inputs.items()}
    merge_adapters(adapted.transformer)
    assert not has_adapters(adapted.transformer)
    for name, x in inputs.items():
        torch.testing.assert_close(adapted.transformer.get_submodule(name)(x), expected[name], rtol=1e-5, atol=1e-5)
    fresh = DiMo.from_base(base, DiMoConfig.tiny()).transformer.state_dict()
    assert adapted.transformer.state_dict().keys() == fresh.keys()


def test_adapters_of_another_base_are_refused(base: Path, adapted: DiMo, tmp_path: Path) -> None:
    adapted.save(tmp_path)
    file = tmp_path / "transformer" / "motion.safetensors"
    weights = {name: weight[..., :-1].contiguous() for name, weight in load_file(file).items()}
    save_file(weights, file)
    with pytest.raises(ValueError, match="do not fit the base model"):
        DiMo.load(tmp_path, base)
