"""The tiny 3DiMo that is shipped for the demo: small, whole, and people it has never seen follow their drivers."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from opendimo.model.dimo import DiMo
from opendimo.training.config import FollowPolicy, preset
from opendimo.training.data import TrainingData
from opendimo.training.driver_check import DriverCheck
from opendimo.training.initial import initial_model
from opendimo.training.miniature.lake import WorldConfig, miniature_release
from opendimo.training.miniature.studio_model import StudioConfig, make_studio_model
from opendimo.training.no_text import empty_prompt
from opendimo.training.release import Release
from opendimo.training.tiny_base import PRETRAINED, TRAINED


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Release:
    """Takes that no shipped model has seen."""
    torch.set_num_threads(1)
    config = WorldConfig(30, "studio", subjects=10, test_subjects=5, seed=1)
    return miniature_release(tmp_path_factory.mktemp("world") / "lake", PRETRAINED, config)


def gap_of(folder: Path, release: Release, work: Path) -> float:
    """How much another driver raises the loss of a model on held-out takes."""
    config = replace(preset("tiny", PRETRAINED), follow=FollowPolicy(every=1, pairs=24))
    data = {split: TrainingData(release, split, config.model, reference_share=1.0) for split in ("train", "test")}
    kinds = ["same_view", "cross_view"]
    check = DriverCheck(data["train"], data["test"], kinds, config, empty_prompt(PRETRAINED, work), shift=3.0)
    found = check.measure(DiMo.load(folder), 1, "shipped")
    assert found["split"] == "test" and found["pairs"] == 48
    return float(found["gap"])


def test_base_and_model_are_small_and_say_what_they_are() -> None:
    files = [file for folder in (PRETRAINED, TRAINED) for file in folder.rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in files) < 4e6
    assert "apache-2.0" in (TRAINED / "README.md").read_text()


def test_the_demo_can_start_from_it() -> None:
    config = preset("tiny", PRETRAINED).from_trained(TRAINED)
    model, shipped = initial_model(config).state_dict(), DiMo.load(TRAINED).state_dict()
    assert all(torch.equal(value, model[name]) for name, value in shipped.items())


def test_people_follow_their_drivers(release: Release, tmp_path: Path) -> None:
    assert gap_of(TRAINED, release, tmp_path) > 0.2


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_recipe_makes_such_a_model_again(release: Release, tmp_path: Path) -> None:
    short = StudioConfig(takes=100, encoder_steps=400, rounds=(200, 100))
    check = make_studio_model(tmp_path / "made", tmp_path / "work", PRETRAINED, short)
    assert check["gap"] > 0
    made, shipped = (gap_of(folder, release, tmp_path) for folder in (tmp_path / "made", TRAINED))
    assert 0 < made < shipped
