"""The trainer follows the schedule: what trains when, and that losses fall."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from opendimo.model.dimo import DiMo
from opendimo.storage_schemas.releases.release import Release
from opendimo.training.checkpoints import latest
from opendimo.training.config import TrainConfig, preset
from opendimo.training.schedule import three_stages
from opendimo.training.trainer import train
from tests.training.test_trainer import Killed, crash_after, moments, records


def test_a_geometry_head_that_has_ended_is_in_no_checkpoint(
    release: Release, config: TrainConfig, tmp_path: Path
) -> None:
    result = train(release, config, tmp_path, until_stage=1)  # the weight of its loss is 0 from step 6.3 on
    assert (result.checkpoint / "model" / "geometry").is_dir()
    assert any(name.startswith("geometry.") for name in moments(result.checkpoint))
    result = train(release, config, tmp_path)
    assert not (result.checkpoint / "model" / "geometry").exists()
    assert not any(name.startswith("geometry.") for name in moments(result.checkpoint))


def test_the_encoder_trains_alone_first(release: Release, config: TrainConfig, tmp_path: Path) -> None:
    config = replace(config, schedule=replace(config.schedule, encoder_steps=3.0), checkpoint_every=3)
    with pytest.raises(Killed):
        train(release, config, tmp_path, on_progress=crash_after(4))
    begun = DiMo.from_base(Path(config.base), config.model)
    trained = DiMo.load(latest(tmp_path) / "model")
    before, after = begun.transformer.state_dict(), trained.transformer.state_dict()
    frozen = [name for name in before if "motion" not in name]  # motion modules are initialised at random
    assert all(torch.equal(before[name], after[name]) for name in frozen)
    steps = [r for r in records(tmp_path) if "event" not in r]
    assert [step["flow"] == 0 for step in steps] == [True, True, True, False]


def test_while_the_generator_learns_to_read_tokens_they_stay(
    release: Release, config: TrainConfig, tmp_path: Path
) -> None:
    schedule = replace(config.schedule, encoder_steps=1.0, reading_steps=2.0)
    reading, states = replace(config, schedule=schedule, checkpoint_every=1), []
    for steps in (2, 3, 4):
        with pytest.raises(Killed):
            train(release, reading, tmp_path, on_progress=crash_after(steps + 1))
        states.append(DiMo.load(latest(tmp_path) / "model").state_dict())
    changed = [{n for n in one if not torch.equal(one[n], two[n])} for one, two in pairwise(states)]
    assert not any("motion_encoder" in name for name in changed[0])
    assert any(name.startswith("transformer") and "motion" in name for name in changed[0])
    assert any("motion_encoder" in name for name in changed[1])


@pytest.mark.slow
def test_the_loss_of_every_stage_falls(release: Release, base: Path, tmp_path: Path) -> None:
    # a third of the preset's steps: on these six small captures the loss converges before its last stage
    config = preset("tiny", base)
    train(release, replace(config, schedule=three_stages((30, 30, 20), lr=config.schedule.stages[0].lr)), tmp_path)
    events = [r for r in records(tmp_path) if r.get("event", "").startswith("stage")]
    for start, end in zip(events[::2], events[1::2], strict=True):
        assert end["fixed_loss"] < 0.9 * start["fixed_loss"]
