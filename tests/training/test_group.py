"""Train in several processes by Ray Train and by torchrun."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from opendimo.pipelines.engine.runner import ray_session
from opendimo.storage_schemas.releases.release import Release
from opendimo.training.checkpoints import steps_done
from opendimo.training.config import TrainConfig
from opendimo.training.launch import Launcher
from opendimo.training.log import read_metrics
from opendimo.training.recipe import settings_of
from tests.training.killing import Killer, processes


@pytest.fixture(scope="module")
def group() -> Iterator[Launcher]:
    """Two processes on a local Ray with two CPUs."""
    with ray_session(cpus=2), Launcher(processes=2) as started:
        yield started


def test_more_processes_than_the_cluster_has_are_refused(release: Release, config: TrainConfig, tmp_path: Path) -> None:
    with (
        ray_session(cpus=2),
        Launcher(processes=3) as group,
        pytest.raises(ValueError, match="cannot start 3 processes: the Ray cluster has 2 CPUs"),
    ):
        group.train(release.lake_uri, release.id, config, tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_group_goes_on_after_the_death_of_a_process_and_refuses_what_one_process_refuses(
    group: Launcher, release: Release, config: TrainConfig, tmp_path: Path
) -> None:
    killer = Killer(after=6)
    with pytest.raises(ValueError, match="batch of 3 cannot be divided among 2 processes: set batch_size=2"):
        group.train(release.lake_uri, release.id, replace(config, batch_size=3), tmp_path / "odd")
    result = group.train(release.lake_uri, release.id, config, tmp_path / "run", on_progress=killer)
    assert killer.killed and len(set(processes(killer.lines))) >= 2
    assert result.steps_done == config.schedule.steps and result.pipeline == tmp_path / "run" / "pipeline"
    records = [r for r in read_metrics(tmp_path / "run" / "metrics.jsonl") if "event" not in r]
    assert [r["step"] for r in records] == list(range(1, result.steps_done + 1))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_torchrun_trains_like_ray_train_and_stops_on_sigterm_with_a_checkpoint(
    group: Launcher, release: Release, config: TrainConfig, tmp_path: Path
) -> None:
    group.train(release.lake_uri, release.id, config, tmp_path / "ray")
    settings = tmp_path / "config.json"
    settings.write_text(json.dumps(settings_of(config)))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "--no-python"]
    command += [Path(sys.executable).with_name("dimo"), "train", "--release", release.id, "--lake", release.lake_uri]
    command += ["--base", config.base, "--config", settings, "--out", tmp_path / "torchrun"]
    stopped = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    metrics = tmp_path / "torchrun" / "metrics.jsonl"
    while not (metrics.exists() and len(metrics.read_bytes().splitlines()) >= 5):
        assert stopped.poll() is None
        time.sleep(0.05)
    stopped.terminate()
    _, errors = stopped.communicate(timeout=120)
    assert "a checkpoint is saved; run the same command to go on" in errors
    assert 0 < steps_done(tmp_path / "torchrun") < config.schedule.steps
    subprocess.run(command, check=True, timeout=300)
    ours, theirs = (sorted((tmp_path / name / "pipeline").rglob("*.safetensors")) for name in ("torchrun", "ray"))
    assert [file.name for file in ours] == [file.name for file in theirs]
    assert all(a.read_bytes() == b.read_bytes() for a, b in zip(ours, theirs, strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_process_of_torchrun_exits_with_the_number_of_its_signal(
    number: signal.Signals, release: Release, config: TrainConfig, tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text(json.dumps(settings_of(config)))
    command = [Path(sys.executable).with_name("dimo"), "train", "--release", release.id, "--lake", release.lake_uri]
    command += ["--base", config.base, "--config", tmp_path / "config.json", "--out", tmp_path / "run"]
    group = {"TORCHELASTIC_RUN_ID": "one", "RANK": "0", "WORLD_SIZE": "1"}
    run = subprocess.Popen(command, env={**os.environ, **group}, stderr=subprocess.PIPE, text=True)
    metrics = tmp_path / "run" / "metrics.jsonl"
    while not (metrics.exists() and len(metrics.read_bytes().splitlines()) >= 3):
        assert run.poll() is None
        time.sleep(0.05)
    run.send_signal(number)
    _, errors = run.communicate(timeout=120)
    assert run.returncode == 128 + number and "a checkpoint is saved" in errors
