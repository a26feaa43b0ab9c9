"""Train in a Ray worker."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from opendimo.pipelines.engine.runner import ray_session
from opendimo.storage_schemas.releases.release import Release
from opendimo.training.checkpoints import steps_done
from opendimo.training.config import TrainConfig
from opendimo.training.launch import Launcher
from opendimo.training.log import read_metrics
from opendimo.training.summary import stage_losses
from tests.training.killing import Killer, processes

Progress = tuple[int, float | None, list[tuple[int, str]]]


@pytest.fixture(scope="module")
def launcher() -> Iterator[Launcher]:
    """A launcher on a local Ray with two CPUs."""
    with ray_session(cpus=2), Launcher() as started:
        yield started


def test_progress_log_lines_and_refusals_arrive(
    launcher: Launcher, release: Release, config: TrainConfig, tmp_path: Path
) -> None:
    updates: list[Progress] = []
    result = launcher.train(
        release.lake_uri,
        release.id,
        config,
        tmp_path,
        until_stage=1,
        on_progress=lambda *update: updates.append(update),
    )
    assert result.steps_done == sum(steps for steps, _, _ in updates) == 5
    assert isinstance(updates[-1][1], float)
    assert any("single_view stage_end" in text for text in texts(updates))
    rejected: list[str] = []
    with pytest.raises(ValueError, match="no release small@9"):
        launcher.train(
            release.lake_uri, "small@9", config, tmp_path, on_progress=lambda *update: rejected.extend(texts([update]))
        )
    process = processes(texts(updates))
    assert processes(rejected) == process
    again: list[str] = []
    result = launcher.train(
        release.lake_uri,
        release.id,
        config,
        tmp_path,
        until_stage=2,
        on_progress=lambda *update: again.extend(texts([update])),
    )
    assert result.steps_done == 9 and processes(again) == process  # the next stage reuses the worker


def texts(updates: Iterable[Progress]) -> list[str]:
    return [text for _, _, lines in updates for _, text in lines]


@pytest.mark.slow
def test_a_worker_that_is_killed_is_replaced(
    launcher: Launcher, release: Release, config: TrainConfig, tmp_path: Path
) -> None:
    killer = Killer(after=2)
    result = launcher.train(release.lake_uri, release.id, config, tmp_path, on_progress=killer)
    assert killer.killed and result.steps_done == config.schedule.steps and result.pipeline == tmp_path / "pipeline"
    assert any("worker died" in line for line in killer.lines)
    records = read_metrics(tmp_path / "metrics.jsonl")
    assert [r["step"] for r in records if "event" not in r] == list(range(1, result.steps_done + 1))
    assert [row["stage"] for row in stage_losses(tmp_path)] == ["single_view", "mixed_view", "multi_view"]


def test_an_interrupted_caller_leaves_a_checkpoint_and_goes_on_from_it(
    launcher: Launcher, release: Release, config: TrainConfig, tmp_path: Path
) -> None:
    def interrupt(steps: int, *_: object) -> None:
        if steps:
            raise KeyboardInterrupt

    rare = replace(config, checkpoint_every=1000)
    with pytest.raises(KeyboardInterrupt):
        launcher.train(release.lake_uri, release.id, rare, tmp_path, until_stage=1, on_progress=interrupt)
    assert 1 <= steps_done(tmp_path) <= 5
    result = launcher.train(release.lake_uri, release.id, rare, tmp_path, until_stage=1)
    assert result.steps_done == 5
    records = read_metrics(tmp_path / "metrics.jsonl")
    assert [r["step"] for r in records if "event" not in r] == [1, 2, 3, 4, 5]
