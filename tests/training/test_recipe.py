"""Configurations from presets, files and KEY=VALUE options."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from opendimo.training.config import preset
from opendimo.training.recipe import recipe, settings_of


def test_every_kind_of_value_can_be_set_from_the_command_line() -> None:
    config = recipe(
        "tiny",
        "base",
        assignments=(
            "schedule.stages.0.steps=2000",
            'schedule.stages.1.mix=[["cross_view", 1.0]]',
            "model.encoder.hands=false",
            "shift=3",
            "optimizer=muon",
            "seed = 7",
        ),
    )
    assert config.schedule.stage_steps == (2000, 90, 60)
    assert config.schedule.stages[1].mix == (("cross_view", 1.0),)
    assert (config.model.encoder.hands, config.shift, config.optimizer, config.seed) == (False, 3.0, "muon", 7)
    assert recipe("tiny", "base", assignments=("shift=3", "schedule.geometry_end=none")).schedule.geometry_end is None


def test_options_override_the_file_and_the_file_overrides_the_variant(tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text("batch_size = 8\nseed = 3\nmodel.control = 'pose2d'\n[schedule.stages.2]\nsteps = 5\n")
    config = recipe("tiny", "base", variant="no_geometry", file=file, assignments=["seed=4"])
    assert (config.batch_size, config.seed, config.model.control, config.model.geometry) == (8, 4, "pose2d", False)
    assert config.schedule.stage_steps == (90, 90, 5)


@pytest.mark.parametrize("name", ["tiny", "wan2.2-ti2v-5b"])
def test_the_settings_of_a_run_are_a_file_that_gives_them_again(name: str, tmp_path: Path) -> None:
    before = replace(preset(name, "base"), seed=5, shift=2.5)
    (tmp_path / "config.json").write_text(json.dumps(settings_of(before)))
    assert recipe(name, "base", file=tmp_path / "config.json") == before


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("batch_sice=8", r"--set: unknown key 'batch_sice'; known keys: preset, base,"),
        ("schedule.stages.0.step=8", r"unknown key 'schedule.stages.0.step'; known keys: name, steps,"),
        ("schedule.stages.3.steps=8", r"no element '3' in a list of 3, numbered from 0"),
        ("batch_size=eight", r"batch_size must be an integer, got 'eight'"),
        ("batch_size=0", r"batch_size must be positive"),
        ("schedule.stages.0.lr=-1", r"lr 0 or more"),
        ("schedule.text_dropout=1.5", r"must be at most 1"),
        ("schedule.stages=[]", r"the schedule has no stages"),
        ("optimizer=sgd", r"optimizer: .*'adamw' or 'muon'"),
        ("base=other", r"--set: set base with --base"),
        ("seed", r"'seed' is not KEY=VALUE"),
    ],
)
def test_a_wrong_option_is_named(assignment: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        recipe("tiny", "base", assignments=[assignment])


def test_a_key_that_is_set_twice_is_an_error() -> None:
    with pytest.raises(ValueError, match="seed is set twice"):
        recipe("tiny", "base", assignments=["seed=1", "seed=2"])
