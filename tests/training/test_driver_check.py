"""The driver check distinguishes a model that follows its driver from one that ignores it."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from opendimo.model.batch import Batch, Prediction
from opendimo.model.config import DiMoConfig
from opendimo.storage_schemas.releases.release import Release
from opendimo.training.config import FollowPolicy, TrainConfig
from opendimo.training.data import TrainingData
from opendimo.training.driver_check import CONDITIONS, DriverCheck

KINDS = ["cross_view", "moving_camera", "same_view"]


class ConditionedModel(torch.nn.Module):
    """Model whose error is small only if it is given the driver (or the text) that belongs to the target."""

    def __init__(self, belongs: dict[bytes, list[bytes]], reads: str) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.transformer = SimpleNamespace(first_frame_is_given=False)
        self.belongs, self.reads = belongs, reads

    def forward(self, batch: Batch, *, noise: Tensor, drop_motion: Tensor, **_: Any) -> Prediction:
        condition = batch.driving.body if self.reads == "driver" else batch.text
        matches = torch.tensor(
            [
                condition[i].numpy().tobytes() in self.belongs[batch.target[i].numpy().tobytes()]
                and not (self.reads == "driver" and drop_motion[i])
                for i in range(len(condition))
            ]
        )
        error = torch.where(matches, 0.1, 0.3)[:, None, None, None, None]
        return Prediction(noise - batch.target + error.sqrt(), None, None, {})


@pytest.fixture(scope="module")
def data(release: Release) -> dict[str, TrainingData]:
    return {split: TrainingData(release, split, DiMoConfig.tiny(), reference_share=0) for split in ("train", "test")}


def check(data: dict[str, TrainingData], config: TrainConfig, **policy: Any) -> DriverCheck:
    config = replace(config, follow=FollowPolicy(every=5, pairs=6, **policy))
    return DriverCheck(data["train"], data["test"], KINDS, config, torch.zeros(1, 32), 3.0)


def model_of(driver_check: DriverCheck, reads: str) -> ConditionedModel:
    belongs: dict[bytes, list[bytes]] = {}
    for pair in driver_check.pairs:
        batch = driver_check.data.batch([pair])
        condition = batch.driving.body if reads == "driver" else batch.text
        belongs.setdefault(batch.target[0].numpy().tobytes(), []).append(condition[0].numpy().tobytes())
    return ConditionedModel(belongs, reads)


def test_a_model_that_follows_its_driver_has_a_gap(data: dict[str, TrainingData], config: TrainConfig) -> None:
    driver_check = check(data, config, from_step=0)
    record = driver_check.measure(model_of(driver_check, "driver"), 10, "mixed_view")
    assert record["split"] == "test" and record["note"] is None
    assert record["loss"]["true"] == pytest.approx(0.1) and record["loss"]["other"] == pytest.approx(0.3)
    assert record["loss"]["none"] == pytest.approx(0.3)
    assert record["gap"] == pytest.approx(2.0) and record["warning"] is None
    rows = [row for row in (*record["by_kind"].values(), *record["by_noise"]) if row["other"] is not None]
    assert len(rows) > 3 and all(row["other"] > row["true"] for row in rows)
    assert set(record["by_region"]) == {"face", "hands", "body", "background"}
    seen = [losses for losses in record["by_region"].values() if losses["true"] is not None]
    assert seen and all(losses["true"] == pytest.approx(0.1) for losses in seen)
    assert all(losses["none"] == pytest.approx(0.3) for losses in seen)


def test_a_model_that_ignores_its_driver_is_named(data: dict[str, TrainingData], config: TrainConfig) -> None:
    driver_check = check(data, config, from_step=8)
    model = model_of(driver_check, "text")
    assert driver_check.measure(model, 5, "mixed_view")["warning"] is None  # before `from_step`
    record = driver_check.measure(model, 10, "mixed_view")
    assert record["gap"] == pytest.approx(0) and "hardly follows its driver" in record["warning"]
    assert record["loss"]["no_text"] == pytest.approx(0.3)


def test_without_held_out_pairs_training_pairs_are_used_and_it_is_noted(
    data: dict[str, TrainingData], config: TrainConfig
) -> None:
    driver_check = DriverCheck(data["train"], data["train"], ["no such kind"], config, torch.zeros(1, 32), 3.0)
    assert driver_check.pairs == []
    empty = SimpleNamespace(fixed=lambda *_: (_ for _ in ()).throw(ValueError("none")))
    driver_check = DriverCheck(data["train"], empty, KINDS, config, torch.zeros(1, 32), 3.0)  # type: ignore[arg-type]
    assert driver_check.split == "train" and "holds out none" in str(driver_check.note)


def test_the_other_driver_is_of_another_capture(data: dict[str, TrainingData], config: TrainConfig) -> None:
    driver_check = check(data, config)
    found = [(pair, other) for pair, other in zip(driver_check.pairs, driver_check.others, strict=True) if other]
    assert found and all(pair.capture_id != other.capture_id for pair, other in found)


def test_the_same_check_twice_gives_the_same_numbers(data: dict[str, TrainingData], config: TrainConfig) -> None:
    driver_check = check(data, config)
    model = model_of(driver_check, "driver")
    assert driver_check.measure(model, 5, "x") == driver_check.measure(model, 5, "x")
    assert set(driver_check.measure(model, 5, "x")["loss"]) == set(CONDITIONS)
