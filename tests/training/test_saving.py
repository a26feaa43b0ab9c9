"""Checkpoints that are written while training goes on."""

import os
import pickle
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from opendimo.model.config import DiMoConfig
from opendimo.model.dimo import DiMo
from opendimo.storage_schemas.releases.release import Release
from opendimo.training.checkpoints import latest, steps_done
from opendimo.training.config import TrainConfig
from opendimo.training.optimizer import PartsOptimizer
from opendimo.training.parallel import World
from opendimo.training.saving import Saver
from opendimo.training.trainer import train

ALONE = World(0, 1, torch.device("cpu"))
SCRIPT = """
import pickle, sys, torch; torch.set_num_threads(1)
from opendimo.storage_schemas.releases.release import open_release
from opendimo.training.trainer import train
train(open_release(sys.argv[1], 'small@1'), pickle.loads(open(sys.argv[2], 'rb').read()), sys.argv[3])
"""


@pytest.fixture
def model(base: Path) -> DiMo:
    torch.manual_seed(0)
    return DiMo.from_base(base, DiMoConfig.tiny())


@pytest.fixture
def small_files() -> Iterator[None]:
    """Restore the largest size of a file that this process may write."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def optimizer_of(model: DiMo) -> PartsOptimizer:
    optimizer = PartsOptimizer(model, "adamw", betas=(0.9, 0.99), weight_decay=0.0)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    return optimizer


def test_a_checkpoint_has_the_values_of_the_moment_when_it_was_asked_for(model: DiMo, tmp_path: Path) -> None:
    optimizer = optimizer_of(model)
    weight = model.transformer.proj_out.weight
    before, moment = weight.detach().clone(), optimizer.state()["transformer.proj_out.weight.exp_avg"].clone()
    saver = Saver(tmp_path, ALONE, set())
    saver.save({"step": 1}, model, optimizer, None)
    weight.data.zero_()  # while the thread writes
    optimizer.state()["transformer.proj_out.weight.exp_avg"].zero_()
    saver.close()
    checkpoint = latest(tmp_path)
    stored = load_file(checkpoint / "model" / "transformer" / "diffusion_pytorch_model.safetensors")
    assert torch.equal(stored["proj_out.weight"], before)
    [file] = (checkpoint / "optimizer").iterdir()
    assert torch.equal(load_file(file)["transformer.proj_out.weight.exp_avg"], moment)


def test_checkpoints_are_written_one_after_the_other_and_leftovers_of_a_kill_go(model: DiMo, tmp_path: Path) -> None:
    left = tmp_path / "checkpoints" / ".step-000007.part"
    left.mkdir(parents=True)
    optimizer, saver = optimizer_of(model), Saver(tmp_path, ALONE, {1})
    for step in range(1, 6):
        saver.save({"step": step}, model, optimizer, None)
        assert steps_done(tmp_path) >= step - 1  # the one before is complete
    saver.wait()
    assert sorted(path.name for path in left.parent.iterdir()) == ["step-000001", "step-000004", "step-000005"]
    saver.close()


def test_an_error_of_the_thread_ends_the_run_at_the_next_step_and_the_checkpoint_before_is_kept(
    release: Release, config: TrainConfig, tmp_path: Path, small_files: None
) -> None:
    seen = []

    def progress(done: int, _total: int, record: dict) -> None:
        seen.append(done)
        if done == 4:  # the checkpoint of step 3 is complete; no file of that of step 6 can be
            while steps_done(tmp_path) < 3:
                time.sleep(0.01)
            resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, resource.RLIM_INFINITY))

    rare = replace(config, schedule=replace(config.schedule.first(1).in_steps(30)))
    with pytest.raises(OSError, match=r"a checkpoint could not be written, the one before is kept: .*File too large"):
        train(release, rare, tmp_path, on_progress=progress)
    assert steps_done(tmp_path) == 3 and 6 <= seen[-1] <= 9


@pytest.mark.slow
def test_a_kill_while_a_checkpoint_is_written_leaves_the_one_before(
    release: Release, config: TrainConfig, tmp_path: Path
) -> None:
    (tmp_path / "config").write_bytes(pickle.dumps(replace(config, checkpoint_every=1)))
    out = tmp_path / "run"
    killed = 0
    for _ in range(6):
        begun = steps_done(out)
        arguments = [release.lake_uri, str(tmp_path / "config"), str(out)]
        run = subprocess.Popen([sys.executable, "-c", SCRIPT, *arguments], env={**os.environ, "OMP_NUM_THREADS": "1"})
        part = out / "checkpoints" / f".step-{begun + 2:06d}.part" / "model" / "dimo.json"
        while not part.exists() and run.poll() is None:
            time.sleep(0.0002)
        run.send_signal(signal.SIGKILL)
        run.wait()
        if list((out / "checkpoints").glob(".step-*.part")):
            killed += 1
            assert steps_done(out) == begun + 1 and (latest(out) / "state.json").exists()
        if killed == 2:
            break
    assert killed == 2
    assert train(release, replace(config, checkpoint_every=1), out).steps_done == 12
