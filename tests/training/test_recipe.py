"""Configurations from presets, files and KEY=VALUE options."""

import json
from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest

from opendimo.training.config import PresetName, preset
from opendimo.training.recipe import Recipe, settings_of


def test_every_kind_of_value_can_be_set_from_the_command_line() -> None:
    config = Recipe(
        "base",
        settings=(
            "schedule.stages.0.steps=2000",
            'schedule.stages.1.mix=[["cross_view", 1.0]]',
            "model.encoder.hands=false",
            "shift=3",
            "optimizer=muon",
            "seed = 7",
        ),
    ).config()
    assert config.schedule.stage_steps == (2000, 90, 60)
    assert config.schedule.stages[1].mix == (("cross_view", 1.0),)
    assert (config.model.encoder.hands, config.shift, config.optimizer, config.seed) == (False, 3.0, "muon", 7)
    assert Recipe("base", settings=("shift=3", "schedule.geometry_end=none")).config().schedule.geometry_end is None


@pytest.mark.parametrize(("stored", "choice"), [(True, "full"), (False, None)])
def test_a_config_of_an_older_version_chooses_checkpointing(stored: bool, choice: str | None, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"gradient_checkpointing": stored}))
    assert Recipe("base", "lite", file=str(tmp_path / "config.json")).config().gradient_checkpointing == choice
    assert Recipe("base", settings=("gradient_checkpointing=selective",)).config().gradient_checkpointing == "selective"


def test_options_override_the_file_and_the_file_overrides_the_variant(tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text("batch_size = 8\nseed = 3\nmodel.control = 'pose2d'\n[schedule.stages.2]\nsteps = 5\n")
    config = Recipe("base", variant="no_geometry", file=str(file), settings=("seed=4",)).config()
    assert (config.batch_size, config.seed, config.model.control, config.model.geometry) == (8, 4, "pose2d", False)
    assert config.schedule.stage_steps == (90, 90, 5)


@pytest.mark.parametrize("name", get_args(PresetName))
def test_the_settings_of_a_run_are_a_file_that_gives_them_again(name: PresetName, tmp_path: Path) -> None:
    before = replace(preset(name, "base"), seed=5, shift=2.5)
    (tmp_path / "config.json").write_text(json.dumps(settings_of(before)))
    assert Recipe("base", name, file=str(tmp_path / "config.json")).config() == before


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
        ("gradient_checkpointing=some", r"gradient_checkpointing: .*'full' or 'selective'"),
        ("shard_size=0", r"shard_size must be positive"),
        ("optimizer=sgd", r"optimizer: .*'adamw', 'adamw8bit' or 'muon'"),
        ("base=other", r"--set: set base with --base"),
        ("seed", r"'seed' is not KEY=VALUE"),
    ],
)
def test_a_wrong_option_is_named(assignment: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Recipe("base", settings=(assignment,)).config()


def test_a_key_that_is_set_twice_is_an_error() -> None:
    with pytest.raises(ValueError, match="seed is set twice"):
        Recipe("base", settings=("seed=1", "seed=2")).config()


def test_the_total_of_steps_keeps_the_proportions_of_the_stages() -> None:
    assert Recipe("base", settings=("schedule.stages.2.steps=20",), steps=100).config().schedule.stage_steps == (
        45,
        45,
        10,
    )
