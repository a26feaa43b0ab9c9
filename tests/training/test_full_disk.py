"""Training while the disk is full, on a small file system that is really full."""

import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from opendimo.storage_schemas.releases.release import Release
from opendimo.training import saving
from opendimo.training.checkpoints import latest, steps_done
from opendimo.training.config import TrainConfig
from opendimo.training.full_disk import HeldLines, is_full
from opendimo.training.log import BOARD, MetricsLog, read_metrics
from opendimo.training.result import TrainingStopped
from opendimo.training.trainer import train
from tests.small_disk import BALLAST, fill_disk, small_disk
from tests.training.test_parallel import finished, of_steps, torchrun

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
TIMES = {"seconds", "data_seconds", "samples_per_second"}


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "disk", 256):
        yield tmp_path / "disk"


@pytest.fixture
def short(config: TrainConfig) -> TrainConfig:
    """A run of one stage and 12 steps, with a checkpoint after every third."""
    return replace(config, schedule=config.schedule.first(1).in_steps(12), checkpoint_every=3)


def full_from(step: int, disk: Path, then: Callable[[int], None] = lambda done: None) -> Callable[..., None]:
    """Return a progress callback that fills the disk once the checkpoint before `step` is complete."""

    def progress(done: int, _total: int, record: dict) -> None:
        if done == step and "event" not in record:
            while steps_done(disk / "run") < step - step % 3:
                time.sleep(0.001)
            fill_disk(disk)
        then(done)

    return progress


def test_only_errors_of_a_full_disk_are_taken_for_one(disk: Path) -> None:
    fill_disk(disk)
    with pytest.raises(Exception) as rust:
        save_file({"a": torch.zeros(100_000)}, disk / "weights")
    with pytest.raises(OSError) as python:
        (disk / "text").write_text("a" * 100_000)
    with pytest.raises(OSError) as missing:
        (disk / "no folder" / "text").write_text("a")
    assert [is_full(error.value) for error in (rust, python, missing)] == [True, True, False]


def test_lines_that_do_not_fit_are_written_later_in_their_order(disk: Path) -> None:
    lines = HeldLines(disk / "log", 0)
    fill_disk(disk)
    for k in range(2000):
        lines.append(f"line {k}")
    with pytest.raises(OSError):
        lines.write()
    (disk / BALLAST).unlink()
    lines.append("the last")
    lines.close()
    assert (disk / "log").read_text().splitlines() == [*(f"line {k}" for k in range(2000)), "the last"]
    assert (disk / "log").stat().st_size == lines.length


def test_tensorboard_gets_all_steps_once_there_is_space(disk: Path) -> None:
    log = MetricsLog(disk)
    for step in range(1, 400):
        log.write({"step": step, "loss": step / 2})
        if step == 100:
            log.flush()
            fill_disk(disk)
        if step in (150, 200):
            log.flush()
    (disk / BALLAST).unlink()
    log.close()
    board = EventAccumulator(str(disk / BOARD), size_guidance={"scalars": 0})
    board.Reload()
    assert [(s.step, s.value) for s in board.Scalars("step/loss")] == [(k, k / 2) for k in range(1, 400)]


def test_a_run_goes_on_over_a_full_disk_as_if_nothing_had_happened(
    release: Release, short: TrainConfig, disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(saving, "RETRY", 0.1)
    monkeypatch.setattr(saving, "PATIENCE", 60.0)
    seen = []

    def free(done: int) -> None:
        seen.append(done)
        if done == 8:  # the checkpoint of step 6 waits for space meanwhile
            assert steps_done(disk / "run") == 3
            (disk / BALLAST).unlink()

    result = train(release, short, disk / "run", on_progress=full_from(4, disk, free))
    calm = train(release, short, tmp_path / "calm")
    assert result.steps_done == 12 == max(seen)
    records, expected = ([r for r in read_metrics(one.metrics)] for one in (result, calm))
    assert [{k: v for k, v in r.items() if k not in TIMES} for r in records] == [
        {k: v for k, v in r.items() if k not in TIMES} for r in expected
    ]
    weights, same = (
        load_file(one.checkpoint / "model" / "transformer" / "diffusion_pytorch_model.safetensors")
        for one in (result, calm)
    )
    assert all(torch.equal(weights[name], same[name]) for name in same)


def test_a_run_without_space_ends_with_the_checkpoint_before_and_can_go_on(
    release: Release, short: TrainConfig, disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(saving, "RETRY", 0.1)
    monkeypatch.setattr(saving, "PATIENCE", 0.5)
    with pytest.raises(OSError, match=r"a checkpoint could not be written, the one before is kept: .*space"):
        train(release, short, disk / "run", on_progress=full_from(4, disk))
    assert latest(disk / "run").name == "step-000003"
    assert not list((disk / "run" / "checkpoints").glob(".*"))
    (disk / BALLAST).unlink()
    assert train(release, short, disk / "run").steps_done == 12
    steps = [json.loads(line)["step"] for line in (disk / "run" / "metrics.jsonl").read_text().splitlines()]
    assert sorted(set(steps)) == list(range(13))


def test_a_stopped_run_does_not_wait_for_space(release: Release, short: TrainConfig, disk: Path) -> None:
    stop = threading.Event()

    def progress(done: int) -> None:
        if done == 7:
            stop.set()

    with pytest.raises((OSError, TrainingStopped)):
        train(release, short, disk / "run", on_progress=full_from(4, disk, progress), should_stop=stop.is_set)
    assert steps_done(disk / "run") == 3


@pytest.mark.slow
def test_two_processes_wait_for_space_together(
    release: Release, short: TrainConfig, disk: Path, tmp_path: Path
) -> None:
    short = replace(short, batch_size=4)
    run = torchrun(release, short, disk / "run", 2, until_stage=1)
    while not steps_done(disk / "run"):
        assert run.poll() is None
        time.sleep(0.001)
    fill_disk(disk)
    assert run.stderr is not None
    while "waits for space" not in (line := run.stderr.readline()):
        assert line, "the run ended"
    (disk / BALLAST).unlink()
    finished(run)
    calm = torchrun(release, short, tmp_path / "calm", 2, until_stage=1)
    finished(calm)
    assert steps_done(disk / "run") == 12
    assert of_steps(disk / "run", "loss") == of_steps(tmp_path / "calm", "loss")
