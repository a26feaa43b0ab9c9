"""Publish a trained pipeline."""

from dataclasses import replace
from pathlib import Path

import pytest
from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from huggingface_hub import constants

from opendimo.model.pipeline import DiMoPipeline
from opendimo.storage_schemas.media.video import probe
from opendimo.storage_schemas.releases.release import Release
from opendimo.training.config import SamplePolicy, TrainConfig
from opendimo.training.publish import publish
from opendimo.training.schedule import three_stages
from opendimo.training.trainer import train
from tests.model.hub_server import hub


@pytest.fixture(scope="module")
def run(release: Release, config: TrainConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of three steps with sample videos."""
    out = tmp_path_factory.mktemp("run")
    short = replace(config, schedule=three_stages((1, 1, 1), lr=1e-3), samples=SamplePolicy(every=1, clips=1, steps=1))
    train(release, short, out)
    return out


def files(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_a_folder_gets_the_pipeline_its_card_and_the_newest_samples(run: Path, tmp_path: Path) -> None:
    folder = Path(publish(run, str(tmp_path / "published")))
    ours, theirs = files(run / "pipeline"), files(folder)
    assert theirs.keys() - ours.keys() == {"samples.mp4"}
    assert all(theirs[name] == content for name, content in ours.items() if name != "README.md")
    assert theirs["samples.mp4"] == (run / "samples" / "step-000003.mp4").read_bytes()
    assert probe(theirs["samples.mp4"]).width == 3 * 64
    card = theirs["README.md"].decode()
    assert card.startswith(ours["README.md"].decode()) and "## Licences" in card and 'src="samples.mp4"' in card
    assert not any(str(run).encode() in content for content in theirs.values())
    loaded = DiffusionPipeline.from_pretrained(folder, trust_remote_code=True)
    assert isinstance(loaded, DiMoPipeline)


def test_a_hub_gets_the_same_files_in_one_commit(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with hub("lab/dance", tmp_path / "hub") as (address, requests):
        monkeypatch.setattr(constants, "ENDPOINT", address)
        assert publish(run, "lab/dance") == f"{address}/lab/dance"
    publish(run, str(tmp_path / "folder"))
    assert files(tmp_path / "hub") == files(tmp_path / "folder")
    assert sum("/commit/main" in request for request in requests) == 1


def test_unusable_targets_and_unfinished_runs_are_refused(run: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="exists: choose a new folder"):
        publish(run, str(tmp_path))
    with pytest.raises(ValueError, match="neither ORG/NAME nor a folder"):
        publish(run, "dance")
    with pytest.raises(ValueError, match="a folder has no revisions"):
        publish(run, str(tmp_path / "new"), revision="v1")
    with pytest.raises(ValueError, match="finish the last training stage first"):
        publish(tmp_path, str(tmp_path / "new"))
