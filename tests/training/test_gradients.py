"""Gradients do not depend on the number of processes, on replicas, or on what is computed again or compiled."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch._dynamo.utils import counters
from torch.utils.flop_counter import FlopCounterMode

from opendimo.model.controls.implicit import ImplicitControl
from opendimo.storage_schemas.releases.release import Release
from opendimo.training.checkpoints import latest
from opendimo.training.config import TrainConfig
from opendimo.training.log import read_metrics
from opendimo.training.parallel import World
from opendimo.training.trainer import train
from tests.training.gradients import distance, gradients, in_processes, trained

ALONE = World(0, 1, torch.device("cpu"))


@pytest.fixture
def config(config: TrainConfig, tmp_path: Path) -> TrainConfig:
    """A step of four samples with the generator, the geometric loss and all augmentation."""
    return replace(trained(config, tmp_path / "trained"), batch_size=4, ema_decay=None)


@pytest.mark.parametrize("choice", ["full", "selective"])
def test_checkpointing_changes_no_gradient(choice: str, release: Release, config: TrainConfig, tmp_path: Path) -> None:
    plain = gradients(release, config, tmp_path / "plain", ALONE)
    checkpointed = gradients(release, replace(config, gradient_checkpointing=choice), tmp_path / choice, ALONE)
    assert distance(checkpointed, plain) < 1e-7


def test_only_full_checkpointing_computes_matrix_products_again(
    release: Release, config: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ImplicitControl, "_supports_gradient_checkpointing", False)  # count the blocks only
    flops = {}
    for choice in (None, "full", "selective"):
        with FlopCounterMode(display=False) as counter:
            gradients(release, replace(config, gradient_checkpointing=choice), tmp_path / str(choice), ALONE)
        flops[choice] = counter.get_total_flops()
    assert flops["selective"] == flops[None] < flops["full"]


@pytest.mark.slow
@pytest.mark.parametrize("choice", [None, "full", "selective"])
def test_compiled_blocks_have_the_same_gradients_and_share_a_graph(
    choice: str | None, release: Release, config: TrainConfig, tmp_path: Path
) -> None:
    torch._dynamo.reset()
    counters.clear()
    plain = gradients(release, config, tmp_path / "plain", ALONE)
    compiled = replace(config, gradient_checkpointing=choice, compile=True)
    assert distance(gradients(release, compiled, tmp_path / "compiled", ALONE), plain) < 1e-6
    assert counters["stats"]["unique_graphs"] == 1


@pytest.mark.slow
def test_a_compiled_run_has_the_losses_of_an_eager_one_which_goes_on_from_it(
    release: Release, config: TrainConfig, tmp_path: Path
) -> None:
    compiled = replace(config, compile=True, gradient_checkpointing="selective")
    train(release, config, tmp_path / "eager", until_stage=1)
    train(release, compiled, tmp_path / "compiled", until_stage=1)
    runs = [read_metrics(tmp_path / name / "metrics.jsonl") for name in ("eager", "compiled")]
    eager, other = ([record["loss"] for record in run if "event" not in record] for run in runs)
    assert len(eager) == 5 and other[:3] == pytest.approx(eager[:3], rel=1e-5)
    checkpoints = [latest(tmp_path / name) for name in ("eager", "compiled")]
    names = [[f for p in sorted(c.rglob("*.safetensors")) for f in load_file(p)] for c in checkpoints if c]
    assert names[0] == names[1]
    assert train(release, config, tmp_path / "compiled", until_stage=2).steps_done == 9


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("processes", [2, 4])
def test_processes_compute_the_gradients_of_one(
    processes: int, release: Release, config: TrainConfig, tmp_path: Path
) -> None:
    one = gradients(release, config, tmp_path / "one", ALONE)
    configs = {
        "sharded": config,
        "in pairs": replace(config, shard_size=2),
        "replicas": replace(config, shard_size=1),
        "selective": replace(config, gradient_checkpointing="selective"),
        "compiled": replace(config, gradient_checkpointing="full", compile=True),
    }
    several = in_processes(release, configs, tmp_path / "several", processes)
    distances = {name: distance(found, one) for name, found in several.items()}
    assert max(distances.values()) < 1e-6, distances


def test_groups_that_do_not_divide_the_processes_are_refused_with_the_nearest_that_do() -> None:
    world = World(0, 12, torch.device("cpu"))
    with pytest.raises(
        ValueError, match="12 processes cannot be divided into groups of shard_size=5: set shard_size=4"
    ):
        world.check_shards(5)
    for size in (None, 1, 4, 12):
        world.check_shards(size)
