"""Adapters, bfloat16 and 8-bit moments in several processes."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from opendimo.storage_schemas.releases.release import Release
from opendimo.training.config import TrainConfig
from opendimo.training.trainer import train
from tests.training.test_parallel import config, finished, of_steps, torchrun, weights  # noqa: F401  # a fixture


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("options", "tolerance"),
    [
        ({"bf16": True}, 0.1),
        ({"lora_rank": 4}, 1e-2),
        ({"lora_rank": 4, "bf16": True}, 0.1),
        ({"optimizer": "adamw8bit"}, 0.05),
        ({"optimizer": "adamw8bit", "lora_rank": 4, "bf16": True}, 0.1),
    ],
    ids=["bf16", "lora", "lora-bf16", "8bit", "8bit-lora-bf16"],
)
def test_two_processes_and_then_one_train_like_one(
    options: dict[str, object],
    tolerance: float,
    release: Release,
    config: TrainConfig,  # noqa: F811
    tmp_path: Path,
) -> None:
    if options.get("optimizer") == "adamw8bit":
        pytest.importorskip("torchao")
    config = replace(config, **options)  # type: ignore[arg-type]
    train(release, config, tmp_path / "one")
    finished(torchrun(release, config, tmp_path / "two", processes=2, until_stage=2))
    train(release, config, tmp_path / "two")
    once, twice = of_steps(tmp_path / "one", "loss"), of_steps(tmp_path / "two", "loss")
    assert len(twice) == config.schedule.steps and twice == pytest.approx(once, rel=tolerance)
    ours, theirs = weights(tmp_path / "two"), weights(tmp_path / "one")
    assert ours.keys() == theirs.keys()
    assert {weight.dtype for weight in ours.values()} == {weight.dtype for weight in theirs.values()}
    differences = sorted(float((ours[n].float() - theirs[n].float()).abs().mean()) for n in ours)
    assert differences[int(0.9 * len(differences))] < 1e-3
    assert not any(torch.isnan(weight).any() for weight in ours.values())
