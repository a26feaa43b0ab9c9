"""Estimated costs of full-size runs, against independent figures."""

from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention

from opendimo.training.budget import Budget, budget
from opendimo.training.config import FULL_SIZE, preset
from opendimo.training.counting import counted
from opendimo.training.variants import with_variant

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wan() -> Budget:
    return budget(preset("wan2.2-ti2v-5b", "base"))


def test_the_published_sizes_of_the_backbones_come_out(wan: Budget) -> None:
    hunyuan = budget(preset("hunyuanvideo-1.5", "base"))
    assert wan.base == pytest.approx(5.0e9, rel=0.002)
    assert hunyuan.base == pytest.approx(8.33e9, rel=0.002)
    assert (wan.tokens, hunyuan.tokens) == (12_090 + 390, 49_290 + 1_590)  # video + reference


def test_operations_of_the_base_are_those_of_its_matrices(wan: Budget) -> None:
    """Analytic: per token 8 D^2 for the projections of two attentions, 2 D F for the feed-forward, plus attention."""
    tokens, width, ffn, layers, text = wan.tokens, 3072, 14336, 30, 512
    matrices = tokens * (6 * width**2 + 2 * width * ffn) + text * 2 * width**2
    attention = 2 * tokens * (tokens + text) * width
    by_hand = 3 * 2 * layers * (matrices + attention)
    assert wan.base_flops == pytest.approx(by_hand, rel=0.02)


def test_motion_costs_what_its_own_matrices_cost(wan: Budget) -> None:
    tokens, width, motion, frames = wan.tokens, 3072, 768, 121
    projections = tokens * 2 * width**2 + 2 * 32 * 4 * 15 * motion * width
    attention = 2 * tokens * 60 * width
    encoder = 8.67e12 / 2  # measured separately: multiplications of one forward pass over the driving frames
    by_hand = 3 * 2 * (30 * (projections + attention) + encoder)
    assert wan.flops is not None and frames == wan.video[0]
    assert wan.flops - wan.base_flops == pytest.approx(by_hand, rel=0.02)


def test_sharing_the_state_shares_its_memory(wan: Budget) -> None:
    state = 16 * wan.parameters
    assert wan.memory(1) == state + wan.activation_bytes
    assert state / 8 < wan.memory(8) - wan.activation_bytes < state / 8 + 2**30
    assert wan.memory(8, shard_size=4) - wan.memory(8) == pytest.approx(state / 8)
    assert wan.memory(8, samples=2) - wan.memory(8) == wan.activation_bytes


def test_a_variant_without_motion_tokens_has_no_motion_attention(wan: Budget) -> None:
    drawn = budget(with_variant(preset("wan2.2-ti2v-5b", "base"), "pose2d"))
    assert drawn.motion == 0 and wan.motion == 708_529_920
    assert drawn.flops is None


@pytest.mark.parametrize("variant", ["smpl_vq", "smpl_ctrl"])
def test_operations_are_counted_of_what_reads_poses_and_does_not_draw(variant: str, wan: Budget) -> None:
    estimate = budget(with_variant(preset("wan2.2-ti2v-5b", "base"), variant))
    assert estimate.flops is not None and 1 < estimate.flops / wan.base_flops < 1.2


@pytest.mark.parametrize("name", FULL_SIZE)
def test_the_documents_say_what_is_counted(name: str) -> None:
    config = preset(name, "base")
    estimate = budget(config)
    assert estimate.flops is not None
    memory = [f"{estimate.memory(gpus) / 2**30:.0f}" for gpus in (1, 8)]
    frames, height, width = estimate.video
    operations = f"{estimate.base_flops / 1e15:.3f} / {estimate.flops / 1e15:.3f}"
    days = estimate.flops * config.batch_size * config.schedule.steps / (8 * 250e12) / 86_400
    row = [f"`{name}`", f"{estimate.parameters / 1e9:.2f} B", operations, *memory, f"{days:.1f}"]
    assert f"| {' | '.join(row)} |" in (ROOT / "model" / "README.md").read_text()
    row = [f"`{name}`", f"{height} x {width}", *memory]
    assert f"| {' | '.join(row)} |" in (ROOT / "README.md").read_text() and frames == 121


def test_a_preset_without_a_full_size_is_refused() -> None:
    with pytest.raises(ValueError, match="no budget for preset 'tiny'"):
        budget(preset("tiny", "base"))


def test_what_a_forward_keeps_is_counted_once_and_without_weights() -> None:
    with torch.device("meta"):
        layer, x = nn.Linear(8, 16), torch.empty(4, 8, requires_grad=True)
        found = counted(layer, lambda: layer(x).exp())
    assert found.flops == 2 * 4 * 8 * 16
    assert found.kept == 2 * (4 * 8 + 4 * 16)  # the input, and the result of exp
    assert found.products == 2 * (4 * 16)


def test_attention_keeps_no_scores() -> None:
    with torch.device("meta"):
        q, k = torch.empty(1, 2, 100, 8, requires_grad=True), torch.empty(1, 2, 300, 8)
        found = counted(nn.Identity(), lambda: scaled_dot_product_attention(q, k, k))
    assert found.flops == 2 * 2 * (2 * 100 * 300 * 8)
    assert found.kept == 2 * (2 * 100 * 8 + 2 * 300 * 8 + 2 * 100 * 8)  # queries, keys (here also values), result
    assert found.products == 2 * (2 * 100 * 8)
