"""A run can start from a trained 3DiMo with the same settings and base model."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from opendimo.model.dimo import DiMo
from opendimo.model.linear_vae import LinearVideoVAE
from opendimo.model.tiny import make_tiny_base
from opendimo.storage_schemas.releases.release import Release
from opendimo.training.checkpoints import latest
from opendimo.training.config import TrainConfig
from opendimo.training.initial import initial_model, starts_from
from opendimo.training.log import read_metrics
from opendimo.training.schedule import three_stages
from opendimo.training.trainer import train
from opendimo.training.variants import with_variant


@pytest.fixture(scope="module")
def trained(base: Path, config: TrainConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A half-precision model whose weights differ from those of a newly initialised one."""
    model = DiMo.from_base(base, config.model)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.25)
    folder = tmp_path_factory.mktemp("trained")
    model.half().save(folder)
    (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n# A model\n\nIt was\ntrained.\n\nMore.\n")
    return folder


def test_it_starts_with_all_weights_of_the_trained_model(config: TrainConfig, trained: Path) -> None:
    model, source = initial_model(config.from_trained(trained)), DiMo.load(trained)
    weights = source.state_dict()
    assert all(torch.equal(p, weights[name].float()) for name, p in model.named_parameters())
    assert all(p.dtype == torch.float32 for p in model.parameters())


def test_its_tokens_are_left_as_they_are(release: Release, config: TrainConfig, trained: Path, tmp_path: Path) -> None:
    still = replace(config, schedule=three_stages((1, 1, 1), lr=1e-12)).from_trained(trained)
    train(release, still, tmp_path / "run", until_stage=1)
    checkpoint = latest(tmp_path / "run")
    assert checkpoint is not None
    model, source = DiMo.load(checkpoint / "model"), DiMo.load(trained)
    weights = source.control.state_dict()
    assert all(torch.allclose(p, weights[n].float(), atol=1e-6) for n, p in model.control.named_parameters())
    [start] = [r for r in read_metrics(tmp_path / "run" / "metrics.jsonl") if r.get("event") == "start"]
    assert start["starts_from"][1] == {"what": "trained 3DiMo", "name": trained.name, "about": "It was trained."}


def test_nothing_is_said_of_weights_without_a_model_card(config: TrainConfig) -> None:
    assert [w["about"] for w in starts_from(config)] == [""]


def test_a_head_that_is_gone_starts_anew(config: TrainConfig, trained: Path, tmp_path: Path) -> None:
    model = DiMo.load(trained)
    model.geometry = None
    model.save(tmp_path / "model")
    assert initial_model(config.from_trained(tmp_path / "model")).geometry is not None


def test_a_model_of_other_settings_is_refused(config: TrainConfig, trained: Path) -> None:
    with pytest.raises(ValueError, match="other settings than this run: control 'implicit', not 'channel_concat'"):
        initial_model(with_variant(config, "channel_concat").from_trained(trained))


def test_a_model_of_another_base_is_refused(config: TrainConfig, trained: Path, tmp_path: Path) -> None:
    wider = make_tiny_base(tmp_path / "base", vae=LinearVideoVAE())
    with pytest.raises(ValueError, match="does not fit the base model of this run"):
        initial_model(replace(config, base=str(wider)).from_trained(trained))


def test_two_encoders_to_start_from_are_refused(config: TrainConfig, trained: Path) -> None:
    with pytest.raises(ValueError, match="--init-model or --init-encoder, not both"):
        initial_model(replace(config.from_trained(trained), init_encoder="weights.safetensors"))


def test_a_folder_without_a_model_is_refused(config: TrainConfig, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"is not a 3DiMo model: dimo\.json is missing"):
        initial_model(config.from_trained(tmp_path))


def test_the_encoder_is_not_trained_alone_first(config: TrainConfig, trained: Path) -> None:
    assert config.from_trained(trained).schedule.encoder_steps == 0
