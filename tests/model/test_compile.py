"""torch.compile of the repeated block: one graph for all blocks, without graph breaks."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch._dynamo.utils import counters

from opendimo.model.dimo import DiMo
from opendimo.model.signal import Signal

Make = Callable[..., DiMo]
Inputs = dict[str, Any]


@pytest.fixture(autouse=True)
def fresh_compiler() -> Iterator[None]:
    torch._dynamo.reset()
    counters.clear()
    yield
    torch._dynamo.reset()


@pytest.mark.parametrize("attention", ["aligned", pytest.param("global", marks=pytest.mark.slow)])
def test_the_blocks_compile_to_one_graph_and_compute_the_same(
    family: str, attention: str, make_dimo: Make, inputs: Inputs
) -> None:
    model = make_dimo(family=family, trained=True, motion_attention=attention).transformer.eval()
    with torch.no_grad():
        expected = model(**inputs).sample
        model.compile_repeated_blocks(fullgraph=True, backend="aot_eager")  # `fullgraph`: a break is an error
        given = model(**inputs).sample
    torch.testing.assert_close(given, expected, rtol=1e-4, atol=1e-5)
    assert counters["stats"]["unique_graphs"] == 1


@pytest.mark.slow
def test_a_checkpointed_training_step_compiles_with_additions_to_the_tokens(
    family: str, make_dimo: Make, inputs: Inputs
) -> None:
    model = make_dimo(family=family, trained=True).transformer.train()
    grid = model.grid(inputs["hidden_states"])
    addition = torch.randn(2, grid.frames * grid.height * grid.width, grid.dim)
    inputs["motion"] = Signal(inputs["motion"].motion, (addition, addition))

    def gradients() -> list[torch.Tensor]:
        model.zero_grad()
        model(**inputs).sample.square().mean().backward()
        return [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in model.parameters()]

    expected = gradients()
    model.enable_gradient_checkpointing()
    model.compile_repeated_blocks(fullgraph=True, backend="aot_eager")
    for a, b in zip(gradients(), expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)
    assert counters["stats"]["unique_graphs"] == 1
