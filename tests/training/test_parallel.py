"""Training in several processes (gloo, on the CPU) computes what one process computes."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from opendimo.storage_schemas.releases.release import Release
from opendimo.training.checkpoints import latest, read_state
from opendimo.training.config import TrainConfig
from opendimo.training.log import read_metrics
from opendimo.training.parallel import World
from opendimo.training.trainer import train

SCRIPT = """
import pickle, sys, torch; torch.set_num_threads(1)
from opendimo.storage_schemas.releases.release import open_release
from opendimo.training.trainer import train
lake, config, out, until_stage = sys.argv[1:]
with open(config, 'rb') as stream:
    config = pickle.load(stream)
train(open_release(lake, 'small@1'), config, out, until_stage=int(until_stage))
"""


def torchrun(
    release: Release, config: TrainConfig, out: Path, processes: int, until_stage: int = 3
) -> subprocess.Popen:
    """Start a run in several processes."""
    import pickle

    script, settings = out.with_suffix(".py"), out.with_suffix(".pickle")
    script.write_text(SCRIPT)
    settings.write_bytes(pickle.dumps(config))
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    arguments = [str(x) for x in (script, release.lake_uri, settings, out, until_stage)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([*launch, *arguments], env=environment, stderr=subprocess.PIPE, text=True)


def finished(run: subprocess.Popen) -> None:
    _, errors = run.communicate(timeout=280)
    assert run.returncode == 0, _cause(errors)


def _cause(errors: str) -> str:
    """Return the first traceback of the processes; what follows is of torchrun."""
    return errors[max(0, errors.find("Traceback")) :][:4000]


def of_steps(out: Path, name: str) -> list[float]:
    return [record[name] for record in read_metrics(out / "metrics.jsonl") if "event" not in record]


def weights(out: Path) -> dict[str, torch.Tensor]:
    newest = latest(out)
    assert newest is not None
    files = [file for model in ("model", "ema") for file in sorted((newest / model).rglob("*.safetensors"))]
    return {
        f"{file.parent.parent.name}/{file.parent.name}/{name}": value
        for file in files
        for name, value in load_file(file).items()
    }


@pytest.fixture
def config(config: TrainConfig) -> TrainConfig:
    """Nine steps in three stages, the first two of the encoder alone."""
    stages = tuple(replace(s, steps=n) for s, n in zip(config.schedule.stages, (4, 3, 2), strict=True))
    return replace(config, schedule=replace(config.schedule, stages=stages, encoder_steps=2.0), batch_size=4)


def test_two_processes_and_then_one_with_micro_batches_train_like_one(
    release: Release, config: TrainConfig, tmp_path: Path
) -> None:
    train(release, config, tmp_path / "one")
    finished(torchrun(release, config, tmp_path / "two", processes=2, until_stage=2))
    state = read_state(latest(tmp_path / "two"))
    assert state["step"] == 7 and len(list((latest(tmp_path / "two") / "optimizer").iterdir())) == 2
    train(release, replace(config, micro_batch=1), tmp_path / "two")
    for name in ("loss", "grad_norm"):
        once, twice = of_steps(tmp_path / "one", name), of_steps(tmp_path / "two", name)
        assert twice[:3] == pytest.approx(once[:3], rel=1e-6)
        assert twice == pytest.approx(once, rel=1e-2)  # rounding errors grow tenfold in two steps
    ours, theirs = weights(tmp_path / "two"), weights(tmp_path / "one")
    assert ours.keys() == theirs.keys()
    differences = sorted(float((ours[name] - theirs[name]).abs().mean()) for name in ours)
    # the gradients of offsets before a batch norm are rounding errors, which AdamW amplifies
    assert differences[int(0.95 * len(differences))] < 3e-5


def test_gradients_of_micro_batches_add_up_to_those_of_the_batch(
    release: Release, config: TrainConfig, tmp_path: Path
) -> None:
    config = replace(config, schedule=replace(config.schedule, encoder_steps=0.0))
    for size in (None, 3, 1):  # 3: the last part is smaller
        train(release, replace(config, micro_batch=size), tmp_path / str(size), until_stage=1)
    runs = [read_metrics(tmp_path / name / "metrics.jsonl") for name in ("None", "3", "1")]
    steps = [[record for record in run if "event" not in record] for run in runs]
    for name in ("loss", "flow", "geometry", "grad_norm"):
        whole, thirds, ones = ([step[name] for step in run] for run in steps)
        assert thirds[0] == pytest.approx(whole[0], rel=1e-6) and ones[0] == pytest.approx(whole[0], rel=1e-6)
        assert thirds == pytest.approx(whole, rel=1e-3) and ones == pytest.approx(whole, rel=1e-3)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_two_processes_then_two_pairs_and_then_one_train_like_one(
    release: Release, config: TrainConfig, tmp_path: Path
) -> None:
    train(release, config, tmp_path / "one")
    finished(torchrun(release, config, tmp_path / "many", processes=2, until_stage=1))
    finished(torchrun(release, replace(config, shard_size=2), tmp_path / "many", processes=4, until_stage=2))
    assert read_state(latest(tmp_path / "many"))["step"] == 7
    train(release, config, tmp_path / "many")
    for name in ("kinds", "geometry_weight", "lr"):
        assert of_steps(tmp_path / "many", name) == of_steps(tmp_path / "one", name)
    for name in ("loss", "grad_norm"):
        assert of_steps(tmp_path / "many", name) == pytest.approx(of_steps(tmp_path / "one", name), rel=1e-2)
    ours, theirs = weights(tmp_path / "many"), weights(tmp_path / "one")
    differences = sorted(float((ours[name] - theirs[name]).abs().mean()) for name in theirs)
    assert ours.keys() == theirs.keys() and differences[int(0.95 * len(differences))] < 1e-5


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("processes", "shard_size"), [(2, None), (4, 2)])
def test_after_two_kills_of_one_process_the_run_is_the_same_bit_by_bit(
    processes: int, shard_size: int | None, release: Release, config: TrainConfig, tmp_path: Path
) -> None:
    config = replace(config, shard_size=shard_size)
    finished(torchrun(release, config, tmp_path / "undisturbed", processes))
    for victim, lines in ((-1, 8), (0, 12)):  # in about steps 5 and 8; the last process, and the first
        killed = torchrun(release, config, tmp_path / "killed", processes)
        metrics = tmp_path / "killed" / "metrics.jsonl"
        while not (metrics.exists() and len(metrics.read_bytes().splitlines()) >= lines):
            assert killed.poll() is None
            time.sleep(0.05)
        workers = subprocess.run(["pgrep", "-P", str(killed.pid)], capture_output=True, text=True, check=True)
        os.kill(int(workers.stdout.split()[victim]), signal.SIGKILL)
        killed.communicate(timeout=280)
        assert killed.returncode != 0
    finished(torchrun(release, config, tmp_path / "killed", processes))
    assert of_steps(tmp_path / "killed", "loss") == of_steps(tmp_path / "undisturbed", "loss")
    ours, theirs = weights(tmp_path / "killed"), weights(tmp_path / "undisturbed")
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_process_that_does_not_answer_is_named(release: Release, config: TrainConfig, tmp_path: Path) -> None:
    long = replace(config, schedule=config.schedule.first(1).in_steps(500), collective_timeout=40.0)
    run = torchrun(release, long, tmp_path / "run", processes=2, until_stage=1)
    metrics = tmp_path / "run" / "metrics.jsonl"
    while not (metrics.exists() and len(metrics.read_bytes().splitlines()) >= 6):
        assert run.poll() is None
        time.sleep(0.05)
    workers = subprocess.run(["pgrep", "-P", str(run.pid)], capture_output=True, text=True, check=True).stdout.split()
    os.kill(int(workers[-1]), signal.SIGSTOP)
    _, errors = run.communicate(timeout=280)
    assert run.returncode != 0
    assert "RuntimeError: process 1 does not answer, the others wait: process 0: " in errors, errors[-5000:]
    assert latest(tmp_path / "run") is not None


@pytest.mark.parametrize("processes", [1, 2, 3, 6])
def test_processes_divide_a_batch(processes: int) -> None:
    parts = [World(rank, processes, torch.device("cpu")).samples(12) for rank in range(processes)]
    assert [sample for part in parts for sample in range(12)[part]] == list(range(12))
    assert len({part.stop - part.start for part in parts}) == 1


def test_a_batch_that_cannot_be_divided_is_refused_with_one_that_can() -> None:
    with pytest.raises(ValueError, match="batch of 10 cannot be divided among 4 processes: set batch_size=8"):
        World(0, 4, torch.device("cpu")).samples(10)
