"""Gradients of one step on real pairs, in this process or in several that are joined."""

import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from opendimo.model.backbones.inject import MotionCrossAttention
from opendimo.storage_schemas.releases.release import Release, open_release
from opendimo.training.config import TrainConfig
from opendimo.training.initial import initial_model
from opendimo.training.parallel import World, joined
from opendimo.training.trainer import _Run

ROOT = Path(__file__).parents[2]


def trained(config: TrainConfig, folder: Path) -> TrainConfig:
    """Return a config that starts from a model in which motion has an effect, so that all parts have gradients.

    Gradients are not clipped, and the generator trains from step 0.
    """
    torch.manual_seed(5)
    model = initial_model(config)
    for module in model.transformer.modules():
        if isinstance(module, MotionCrossAttention):
            nn.init.normal_(module.to_out.weight, std=0.1)
    model.save(folder)
    return replace(config.from_trained(folder), grad_clip=1e9)


def gradients(release: Release, config: TrainConfig, out: Path, world: World) -> dict[str, torch.Tensor]:
    """Return the whole gradients of the first step, by name."""
    out.mkdir(parents=True, exist_ok=True)
    run = _Run(release, config, out, True, world, lambda: False)
    run._load()
    batches = run.data.batches(0, 1, config.schedule, config.batch_size, config.seed, run.samples)
    run.stepper.compute(next(iter(batches)).to(world.device).as_floats(), 0)
    found = {name: weight.grad for name, weight in run.model.named_parameters() if weight.grad is not None}
    return {name: getattr(grad, "full_tensor", grad.clone)() for name, grad in found.items()}


def in_processes(
    release: Release, configs: dict[str, TrainConfig], folder: Path, processes: int
) -> dict[str, dict[str, torch.Tensor]]:
    """Return the gradients with each config, computed by several processes."""
    folder.mkdir()
    (folder / "configs.pickle").write_bytes(pickle.dumps(configs))
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    command = [*launch, "-m", "tests.training.gradients", release.lake_uri, release.id, str(folder)]
    done = subprocess.run(command, cwd=ROOT, stderr=subprocess.PIPE, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return {name: load_file(folder / f"{name}.safetensors") for name in configs}


def distance(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> float:
    """Return the norm of the difference of gradients, relative to the norm of the second ones."""
    assert ours.keys() == theirs.keys()
    difference = sum(float((ours[name] - theirs[name]).double().square().sum()) for name in theirs)
    return (difference / sum(float(x.double().square().sum()) for x in theirs.values())) ** 0.5


def main(lake: str, release: str, folder: str) -> None:
    """Write the gradients with each config of `folder`/configs.pickle; called in every process."""
    torch.set_num_threads(1)
    configs = pickle.loads((Path(folder) / "configs.pickle").read_bytes())
    with joined() as world:
        for name, config in configs.items():
            found = gradients(open_release(lake, release), config, Path(folder) / name, world)
            if world.is_first:
                save_file(found, Path(folder) / f"{name}.safetensors")


if __name__ == "__main__":
    main(*sys.argv[1:])
