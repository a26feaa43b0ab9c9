"""A full-size run that does not fit into memory is refused with the nearest that does."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from opendimo.storage_schemas.releases.release import Release
from opendimo.training.budget import Budget, budget
from opendimo.training.config import TrainConfig, preset
from opendimo.training.fitting import GIB, check_fits, fit
from opendimo.training.trainer import train

WAN = preset("wan2.2-ti2v-5b", "base")


@pytest.fixture(scope="module")
def wan() -> Budget:
    return budget(WAN)


def test_selective_checkpointing_needs_more_than_full_and_less_than_none(wan: Budget) -> None:
    tokens, width, ffn, text = wan.tokens, 3072, 14336, 512
    # by hand: q, k, v, attended, out of two attentions over video, q, attended, out of motion; feed-forward; text keys
    products = 2 * 30 * (tokens * (5 + 3 + 3) * width + tokens * (ffn + width) + text * 2 * width)
    assert wan.activations["selective"] - wan.activations["full"] == pytest.approx(products, rel=0.03)
    assert wan.activations["full"] < wan.activations["selective"] < wan.activations[None]


@pytest.mark.parametrize(
    ("changes", "processes", "gib", "nearest"),
    [
        ({}, 8, 80, None),
        ({"micro_batch": 8}, 8, 30, "micro_batch=2"),
        ({"gradient_checkpointing": None}, 8, 70, "gradient_checkpointing=selective"),
        ({"gradient_checkpointing": None, "micro_batch": 2}, 8, 30, "micro_batch=1 gradient_checkpointing=full"),
        ({"shard_size": 1}, 8, 40, "shard_size=none"),
        ({}, 1, 80, "optimizer=adamw8bit"),
        ({}, 1, 40, "optimizer=adamw8bit with 2 processes"),
    ],
)
def test_the_nearest_set_up_fits(changes: dict, processes: int, gib: float, nearest: str | None, wan: Budget) -> None:
    config = replace(WAN, **changes)
    cost = replace(wan, checkpointing=config.gradient_checkpointing)
    found = fit(config, processes, gib * GIB, cost)
    assert found.fits == (nearest is None) and found.nearest == nearest
    assert found.needed == cost.memory(processes, config.micro_batch or 1, config.shard_size)


def test_one_small_gpu_is_for_lite(wan: Budget) -> None:
    found = fit(replace(WAN, batch_size=1), 1, 32 * GIB, wan)
    assert found.nearest == "preset lite with 1 process"
    assert str(found).startswith("each process needs about 93 GiB and has 32: the nearest that fits is preset lite")
    assert str(fit(replace(WAN, batch_size=1), 1, GIB, wan)).endswith("no smaller set-up fits")


def test_such_a_run_is_refused_before_its_model_is_loaded(release: Release, tmp_path: Path) -> None:
    config = replace(WAN, base=str(tmp_path / "no such model"))  # 93 GiB, and no machine of this test has as many free
    with pytest.raises(ValueError, match="the run does not fit: each process needs about 93 GiB"):
        train(release, config, tmp_path / "run")
    check_fits(replace(config, check_memory=False), 1, torch.device("cpu"))


def test_a_small_preset_is_not_judged(config: TrainConfig) -> None:
    check_fits(config, 1, torch.device("cpu"))
