"""A stage asks the scheduler for the device that its config names."""

from pathlib import Path

import pytest
import torch

from opendimo.pipelines.captions.qwen import QwenLocal
from opendimo.pipelines.captions.stage import CaptionsConfig, CaptionsStage
from opendimo.pipelines.engine.device import best_device, gpus_for, torch_device
from opendimo.pipelines.engine.stage import PermanentError
from opendimo.pipelines.latents.stage import LatentsConfig, LatentsStage
from opendimo.pipelines.poses.landmarks import Rtmlib
from opendimo.pipelines.poses.stage import PosesConfig, PosesStage


@pytest.mark.parametrize(("device", "gpus"), [("cpu", 0), ("cuda", 1)])
def test_every_stage_with_a_device_asks_for_it(device: str, gpus: int, tmp_path: Path) -> None:
    model = tmp_path / "model.onnx"
    model.write_bytes(b"weights")
    stages = (
        LatentsStage("lake", LatentsConfig("base", device=device)),
        CaptionsStage("lake", CaptionsConfig(QwenLocal("org/model", device=device))),
        PosesStage("lake", PosesConfig(Rtmlib(str(model), device=device))),
    )
    assert [stage.needs.gpus for stage in stages] == [gpus] * len(stages)


def test_the_device_does_not_change_what_work_is_called() -> None:
    assert LatentsConfig("base", device="cuda").identity() == LatentsConfig("base").identity()


def test_the_scheduler_chooses_the_card() -> None:
    with pytest.raises(ValueError, match="use cpu or cuda"):
        gpus_for("cuda:1")


def test_commands_use_a_gpu_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert best_device() == "cuda"


def test_a_missing_gpu_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert best_device() == "cpu"
    with pytest.raises(PermanentError, match="no GPU"):
        torch_device("cuda")
