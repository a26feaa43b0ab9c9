"""Test `dimo evaluate` on a small release with untrained pipelines."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from opendimo.pipelines.generation.samples import choose_sample
from opendimo.storage_schemas.lake.lake import Lake
from opendimo.storage_schemas.media.video import decode, probe
from opendimo.storage_schemas.releases.release import Release
from opendimo.training.evaluation.cases import choose_cases
from opendimo.training.evaluation.clips import write_inputs
from opendimo.training.evaluation.config import EvaluationConfig
from opendimo.training.evaluation.known import Known
from opendimo.training.release import read_pairs
from tests.dags.command import dimo
from tests.training.evaluation_lake import small_pipeline, small_release


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Release, Path]:
    return small_release(tmp_path_factory.mktemp("release"))


@pytest.fixture(scope="module")
def run(made: tuple[Release, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_pipeline(made[1], tmp_path_factory.mktemp("run"))


def evaluate(release: Release, out: Path, *args: str | Path) -> tuple[int, str, str]:
    options = ["--release", release.id, "--lake", release.lake_uri, "--out", out, "--steps", "1", "--limit", "2"]
    answer = dimo("--debug", "evaluate", *options, *args)
    return answer.returncode, answer.stdout, answer.stderr


def test_checkpoints_and_clips_of_others_are_compared_in_one_table(
    made: tuple[Release, Path], run: Path, tmp_path: Path
) -> None:
    release, out, rival = made[0], tmp_path / "out", tmp_path / "rival"
    write_inputs(release, choose_cases(release, EvaluationConfig(limit=2)), rival)
    code, answer, error = evaluate(release, out, "--checkpoint", f"mine={run}", "--clips", f"rival={rival / 'truth'}")
    assert code == 0, error[-4000:]
    result = json.loads((out / "evaluation.json").read_text())
    assert [system["name"] for system in result["systems"]] == ["mine", "rival", "copy_reference", "truth"]
    assert all(system["all"]["clips"] == 2 for system in result["systems"])
    assert result["absent"].keys() == {"lpips", "fid", "fvd"} and len(list((out / "mine").glob("*.mp4"))) == 2
    assert "rival" in answer and "LPIPS is absent" in answer and "rival" in (out / "evaluation.md").read_text()
    assert (out / "evaluation.html").read_text().count("<video") == 2 * 5
    card = (run / "pipeline" / "README.md").read_text()
    assert "## Evaluation" in card and "| mine | 2 |" in card and "| rival |" not in card


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ((), "nothing to evaluate: give --checkpoint RUN or --clips NAME=FOLDER"),
        (("--clips", "x=nowhere"), "clips x: nowhere is not a folder"),
        (("--clips", "truth=."), "a system cannot be named 'truth'"),
        (("--checkpoint", "."), "no pipeline in ."),
    ],
)
def test_mistakes_are_found_before_anything_starts(
    made: tuple[Release, Path], args: tuple[str, ...], message: str, tmp_path: Path
) -> None:
    code, _, error = evaluate(made[0], tmp_path / "out", *args)
    assert code == 1 and f"error: {message}" in error
    assert not (tmp_path / "out").exists()


def test_help_has_examples() -> None:
    text = dimo("evaluate", "--help").stdout
    assert "Example: dimo evaluate --checkpoint runs/1" in text and "--inception" in text


def test_the_sample_of_the_demo_begins_with_its_window_and_has_the_truth(
    made: tuple[Release, Path], tmp_path: Path
) -> None:
    release = made[0]
    sample = choose_sample(Lake(release.lake_uri), release.id, tmp_path)
    pair = next(pair for pair in read_pairs(release, "test") if pair.kind == "cross_view")
    driving = decode(release.blobs("clip_videos", "video", [pair.driving_clip_id])[0])[pair.driving_start :]
    assert np.abs(decode(sample.driving).astype(int) - driving).mean() < 3
    target = decode(release.blobs("clip_videos", "video", [pair.target_clip_id])[0])
    moment = (pair.target_start + len(target) // 2) % len(target)  # another pose than the first frame of the truth
    assert np.array_equal(np.asarray(Image.open(sample.reference)), target[moment])
    truth, facts = decode(sample.truth), probe(sample.truth)
    assert truth.shape == (9, 64, 64, 3) and facts.fps == 12
    assert sample.prompt == Known(release).latents(pair.latent_id)["text"]
