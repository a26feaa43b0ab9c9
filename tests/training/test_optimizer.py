"""Muon for matrices of layers, AdamW for the rest; a state that was saved and loaded goes on as if it had not been."""

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from opendimo.model.config import DiMoConfig
from opendimo.model.dimo import DiMo
from opendimo.training.optimizer import PartsOptimizer, write_state

RATES = {"generator": 1e-2, "motion": 2e-2, "encoder": 4e-3}


@pytest.fixture
def model(base: Path) -> DiMo:
    torch.manual_seed(0)
    return DiMo.from_base(base, DiMoConfig.tiny())


def muon(model: DiMo) -> PartsOptimizer:
    return PartsOptimizer(model, "muon", betas=(0.9, 0.99), weight_decay=0.0)


def eight_bit(model: DiMo) -> PartsOptimizer:
    pytest.importorskip("torchao")
    return PartsOptimizer(model, "adamw8bit", betas=(0.9, 0.99), weight_decay=0.1)


def fused(model: DiMo) -> PartsOptimizer:
    return PartsOptimizer(model, "adamw", betas=(0.9, 0.99), weight_decay=0.1, fused=True)


def step(model: DiMo, optimizer: PartsOptimizer, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator)
    optimizer.set_rates(RATES)
    optimizer.step()
    optimizer.zero_grad()


def values(model: DiMo) -> dict[str, torch.Tensor]:
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


def test_updates_of_matrices_in_layers_are_orthogonal(model: DiMo) -> None:
    before = values(model)
    step(model, muon(model), 0)
    changes = {name: value - before[name] for name, value in values(model).items()}
    for name, rate in {
        "transformer.blocks.0.attn1.to_q.weight": RATES["generator"],
        "transformer.blocks.1.ffn.net.2.weight": RATES["generator"],
        "transformer.blocks.1.motion.to_out.weight": RATES["motion"],
        "control.motion_encoder.body.layers.0.linear1.weight": RATES["encoder"],
    }.items():
        singular = torch.linalg.svdvals(changes[name])
        singular = singular[: round(0.9 * len(singular))]  # the smallest ones of a random square matrix are near 0
        expected = 0.2 * rate * max(changes[name].shape) ** 0.5  # arXiv 2502.16982, section 2.2
        assert singular.min() / expected > 0.6 and singular.max() / expected < 1.3, name
    for name in ("patch_embedding.weight", "proj_out.weight", "blocks.0.ffn.net.2.bias"):
        rate = torch.tensor(RATES["generator"])
        assert changes[f"transformer.{name}"].abs().allclose(rate, rtol=1e-3), name  # AdamW's first step


def test_every_parameter_is_updated_by_one_optimizer(model: DiMo) -> None:
    before = values(model)
    optimizer = muon(model)
    listed = [id(p) for group in optimizer._groups() for p in group["params"]]
    assert sorted(listed) == sorted(id(p) for p in model.parameters())
    step(model, optimizer, 0)
    assert all(not torch.equal(value, before[name]) for name, value in values(model).items())


@pytest.mark.parametrize("make", [muon, fused, pytest.param(eight_bit, marks=pytest.mark.slow)])
def test_a_loaded_state_goes_on_as_if_nothing_had_happened(
    make: Callable[[DiMo], PartsOptimizer], model: DiMo, tmp_path: Path
) -> None:
    optimizer, other = make(model), copy.deepcopy(model)
    step(model, optimizer, 0)
    other.load_state_dict(model.state_dict())
    loaded = make(other)
    write_state(optimizer.state(), tmp_path / "state")
    loaded.load(tmp_path / "state")
    step(model, optimizer, 1)
    step(other, loaded, 1)
    a, b = values(model), values(other)
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_moments_of_8_bits_are_stored_as_such_and_update_like_adamw(model: DiMo, tmp_path: Path) -> None:
    other = copy.deepcopy(model)
    plain = PartsOptimizer(other, "adamw", betas=(0.9, 0.99), weight_decay=0.1)
    optimizer, before = eight_bit(model), values(model)
    for seed in range(3):
        step(model, optimizer, seed)
        step(other, plain, seed)
    write_state(optimizer.state(), tmp_path)
    [file] = tmp_path.iterdir()
    stored = load_file(file)
    name = "transformer.blocks.0.ffn.net.2.weight"
    assert stored[f"{name}.exp_avg.codes"].dtype == torch.uint8 and stored[f"{name}.exp_avg.codes"].shape == (96, 256)
    assert stored[f"{name}.exp_avg_sq.scales"].shape == (96, 1)
    assert f"{name}.exp_avg" not in stored and "transformer.proj_out.weight.exp_avg" in stored
    ours, theirs = (values(some)[name] - before[name] for some in (model, other))
    assert 0 < (ours - theirs).norm() / theirs.norm() < 0.05  # some rounding


def test_a_removed_module_stays_as_it_is(model: DiMo) -> None:
    optimizer = muon(model)
    optimizer.remove("geometry")
    before = values(model)
    step(model, optimizer, 0)
    changed = {name.split(".")[0] for name, value in values(model).items() if not torch.equal(value, before[name])}
    assert changed == {"transformer", "control"}


def test_an_unknown_optimizer_is_refused(model: DiMo) -> None:
    with pytest.raises(ValueError, match=r"no optimizer 'sgd': choose one of adamw, adamw8bit, muon"):
        PartsOptimizer(model, "sgd", betas=(0.9, 0.99), weight_decay=0.0)  # type: ignore[arg-type]
