"""The wheel, installed into a fresh environment, works beside files of the user's that have our folders' names."""

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = ("storage_schemas", "pipelines", "model", "training", "dags")
SOURCES = ("pyproject.toml", "README.md", "LICENSE", ".src", *ROOMS)
README = """
from opendimo.model.pipeline import DiMoPipeline
from opendimo.pipelines.clips import stage as clips
from opendimo.storage_schemas.lake.lake import Lake
from opendimo.training.trainer import train
import model
print(model.mine, DiMoPipeline.__module__, clips.ClipsStage.name, len(Lake("lake").read("clips")), train.__name__)
"""


def run(command: list[str | Path], folder: Path) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    answer = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr[-2000:]
    return answer.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy, so that nothing is left in the checkout."""
    root = tmp_path_factory.mktemp("checkout")
    for name in SOURCES:
        source, target = ROOT / name, root / name
        if source.is_dir():
            shutil.copytree(source, target, symlinks=True, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        else:
            shutil.copyfile(source, target)
    build = [sys.executable, "-m", "uv", "build", "--wheel", "--no-build-isolation", "--out-dir", root / "dist"]
    run([*build, "--python", sys.executable, root], root)
    [built] = (root / "dist").glob("*.whl")
    return built


def test_an_installed_wheel_works_beside_a_model_of_the_users(wheel: Path, tmp_path: Path) -> None:
    venv.create(tmp_path / "venv", with_pip=False)
    python = tmp_path / "venv" / "bin" / "python"
    # the libraries of this environment, but not the checkout that is installed in it
    site = run([python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], tmp_path).strip()
    (Path(site) / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n")
    run([sys.executable, "-m", "uv", "pip", "install", "--no-deps", "--offline", "--python", python, wheel], tmp_path)
    mine = tmp_path / "mine"
    (mine / "training").mkdir(parents=True)
    (mine / "training" / "__init__.py").write_text("raise RuntimeError('mine')")
    (mine / "model.py").write_text("mine = 42\n")
    (mine / "script.py").write_text(README)
    assert "dimo doctor" in run([tmp_path / "venv" / "bin" / "dimo", "--help"], mine)
    assert run([python, "script.py"], mine).split() == ["42", "opendimo.model.pipeline.pipeline", "clips", "0", "train"]
    where = run([python, "-c", "import opendimo.model as m; print(m.__file__)"], mine)
    assert where.startswith(site)


def test_the_wheel_holds_the_weights_and_templates_that_are_shipped(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert any(name.startswith("opendimo/pipelines/report/templates/") for name in names)
    assert "opendimo/training/miniature/pretrained/transformer/diffusion_pytorch_model.safetensors" in names
    assert not any(name.startswith(("tests/", "model/", ".src/")) for name in names)


def test_tensorboard_starts(tmp_path: Path) -> None:
    run([Path(sys.executable).with_name("tensorboard"), "--version_tb"], tmp_path)
