"""Training on groups of views, and on the cameras of targets."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from opendimo.model.config import DiMoConfig
from opendimo.storage_schemas.lake.lake import Lake
from opendimo.storage_schemas.releases.release import Release, create_release, open_release
from opendimo.training.config import TrainConfig
from opendimo.training.data import TrainingData
from opendimo.training.parallel import World
from opendimo.training.pool import Pool
from opendimo.training.release import Pairs
from opendimo.training.schedule import Schedule, StageConfig, three_stages
from opendimo.training.trainer import train
from opendimo.training.variants import with_variant
from tests.training.conftest import fill
from tests.training.made_pairs import rig
from tests.training.test_trainer import Killed, assert_same_run, crash_after

MIX = (("cross_view", 0.5), ("same_view", 0.5))
RNG = np.random.default_rng(0)
POSES = {"a": np.eye(3, 4), "b": np.array([[0, 0, -1.0, 3], [0, 1, 0, 0], [1, 0, 0, 3]])}
"""Cameras of a rig, world_to_camera; b looks from the right at what is 3 m before a."""


def filmed() -> dict[str, dict[str, object]]:
    """Return columns of the clips of a rig, by view."""
    K = np.float32([[[110, 0, 48], [0, 110, 48], [0, 0, 1]]])
    return {
        view: {"world_to_camera": np.float32(pose)[None].repeat(36, 0), "K": K.repeat(36, 0), "metric": True}
        for view, pose in POSES.items()
    }


@pytest.fixture(scope="module")
def rigs(tmp_path_factory: pytest.TempPathFactory, base: Path, one_thread: None) -> Release:
    """A release whose clips have cameras."""
    lake = Lake(tmp_path_factory.mktemp("rigs"))
    fill(lake, base, cameras=filmed())
    return open_release(lake.uri, create_release(lake, "small")["release_id"])


def of_views(views: int, steps: int = 8, name: str = "views") -> StageConfig:
    return StageConfig(name, steps, MIX, 1e-3, views=views)


@settings(max_examples=20, deadline=None)
@given(st.integers(2, 4), st.integers(1, 3), st.integers(1, 2), st.integers(0, 99))
def test_a_group_shows_one_moment_from_different_cameras(views: int, groups: int, ranks: int, seed: int) -> None:
    pairs = Pairs.of(rig("four", 4, 3) + rig("five", 5, 2) + rig("one", 1, 9))
    pool, batch = Pool(pairs, views), views * groups * ranks
    schedule = Schedule((of_views(views),))
    for step in range(8):
        rows = pool.choose(step, schedule, batch, seed)
        assert rows.tolist() == Pool(pairs, views).choose(step, schedule, batch, seed).tolist()
        chosen = pairs.take(rows)
        parts = [chosen[World(rank, ranks, torch.device("cpu")).samples(batch, views)] for rank in range(ranks)]
        assert [pair for part in parts for pair in part] == chosen
        for part in parts:
            for first in range(0, len(part), views):
                group = part[first : first + views]
                assert len({pair.target_clip_id for pair in group}) == views
                assert len({(pair.driving_clip_id, pair.driving_start) for pair in group}) == 1


def test_the_first_views_of_groups_are_each_drawn_once_and_go_on_after_other_stages() -> None:
    pairs = Pairs.of(rig("four", 4, 3) + rig("alone", 1, 50))
    stages = (of_views(2, 4), of_views(1, 3, "single"), of_views(2, 5))
    pool = Pool(pairs, 2)
    steps = [step for step in range(12) if step not in (4, 5, 6)]
    firsts = [row for step in steps for row in pool.choose(step, Schedule(stages), 8, 0)[::2]]
    kinds = Counter(pair.kind for pair in pairs.take(firsts))
    assert kinds == {"cross_view": 18, "same_view": 18}
    same = [pair.pair_id for pair in pairs.take(firsts) if pair.kind == "same_view"]
    assert len(set(same)) == 12  # each of the twelve windows of the rig, and then six again
    assert {pair.capture_id for pair in pairs.take(firsts)} == {"four"}
    with pytest.raises(ValueError, match="outside the stages of the schedule with 2 views"):
        pool.choose(5, Schedule(stages), 8, 0)


def test_a_batch_has_the_cameras_of_its_targets(rigs: Release) -> None:
    data = TrainingData(rigs, "train", replace(DiMoConfig.tiny(), camera_rays=True))
    [pair] = [p for p in data.fixed("cross_view", 20, 0) if p.driving_clip_id.endswith("a")][:1]
    driving = data.batch([pair]).driving
    assert torch.allclose(driving.target_from_driver[0, 0].double(), torch.from_numpy(POSES["b"]))
    assert torch.allclose(driving.target_K[0, 0], torch.tensor([[110 / 96, 0, 0.5], [0, 110 / 96, 0.5], [0, 0, 1]]))
    [pair] = data.fixed("same_view", 1, 0)
    driving = data.batch([pair]).driving
    assert torch.equal(driving.target_from_driver[0, 0], torch.eye(3, 4)) and driving.target_ok.all()
    assert torch.equal(driving.target_K, driving.K)


def test_pairs_without_cameras_are_left_out_of_what_reads_cameras(release: Release, rigs: Release) -> None:
    model = replace(DiMoConfig.tiny(), camera_rays=True)
    without = TrainingData(release, "train", model)
    assert "left out: the model reads the cameras of both views, which they lack" in without.left_out
    assert {pair.kind for pair in without.pairs} == {"same_view"}
    assert not TrainingData(rigs, "train", model).left_out


def test_all_views_of_a_group_have_one_reference(rigs: Release, config: TrainConfig) -> None:
    schedule = Schedule((of_views(2),))
    data = TrainingData(rigs, "train", config.model)
    for step, batch in enumerate(data.batches(0, 4, schedule, 4, 0)):
        ids = data.references(step, schedule, 4, 0)
        assert ids[0] == ids[1] and ids[2] == ids[3]
        assert torch.equal(batch.reference[0], batch.reference[1])
        assert not torch.equal(batch.target[0], batch.target[1])


@pytest.fixture(scope="module")
def hvg(config: TrainConfig) -> TrainConfig:
    return with_variant(replace(config, schedule=three_stages((2, 3, 2), lr=1e-3), batch_size=4), "hvg")


@pytest.mark.slow
def test_views_train_and_resume_bit_by_bit(rigs: Release, hvg: TrainConfig, tmp_path: Path) -> None:
    assert [stage.views for stage in hvg.schedule.stages] == [1, 2, 2]
    train(rigs, hvg, tmp_path / "straight")
    for step in (3, 6):
        with pytest.raises(Killed):
            train(rigs, hvg, tmp_path / "resumed", on_progress=crash_after(step))
    result = train(rigs, hvg, tmp_path / "resumed")
    assert result.pipeline is not None
    assert_same_run(tmp_path / "straight", tmp_path / "resumed")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 3}, "batch_size must be a multiple of the 2 views of stage mixed_view"),
        ({"micro_batch": 1}, "micro_batch must be a multiple of the 2 views"),
        ({"model": DiMoConfig(reference="first_frame")}, "set model.reference=prefix"),
    ],
)
def test_what_groups_cannot_be_trained_with_is_refused(
    changes: dict[str, object], message: str, hvg: TrainConfig
) -> None:
    with pytest.raises(ValueError, match=message):
        replace(hvg, **changes)


def test_processes_share_whole_groups() -> None:
    with pytest.raises(ValueError, match=r"among 2 processes in groups of 2 views: set batch_size=4"):
        World(0, 2, torch.device("cpu")).samples(6, 2)
