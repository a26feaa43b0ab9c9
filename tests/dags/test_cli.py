"""Test the `dimo` command line: help texts, errors, JSON output and import time."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from opendimo.dags.services import free_port
from opendimo.storage_schemas.lake.lake import Lake
from tests.dags.command import dimo

COMMANDS = [
    "doctor",
    "demo",
    "ingest",
    "label",
    "caption",
    "encode",
    "overlay",
    "status",
    "train",
    "generate",
    "evaluate",
    "report",
]


HEAVY = ("lance", "pyarrow", "pandas", "numpy", "torch", "cv2", "scipy", "av", "prefect", "ray", "httpx")
"""Libraries that take most of a second each to import, or more with what they import themselves."""


@pytest.mark.parametrize("command", [*COMMANDS, "release create", "release list", "release show"])
def test_help_has_an_example(command: str) -> None:
    answer = dimo(*command.split(), "--help")
    assert answer.returncode == 0
    assert f"dimo {command}" in answer.stdout


def test_help_names_every_command() -> None:
    answer = dimo("--help").stdout
    assert all(f" {command} " in answer for command in [*COMMANDS, "release"])


def test_an_error_is_one_line_and_a_code(tmp_path: Path) -> None:
    answer = dimo("status", "--lake", str(tmp_path / "nowhere"))
    assert answer.returncode == 1
    assert answer.stderr.startswith("error: ")
    assert "is not a lake" in answer.stderr
    assert "Traceback" not in answer.stderr
    assert not (tmp_path / "nowhere").exists()
    assert "Traceback" in dimo("--debug", "status", "--lake", str(tmp_path / "nowhere")).stderr


def test_a_wrong_input_is_an_error_before_services_start(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    answer = dimo(
        "ingest", "internet", str(tmp_path / "empty"), "--lake", str(tmp_path / "lake"), "--licence", "CC0-1.0"
    )
    assert answer.returncode == 1
    assert answer.stderr.startswith("error: ") and "no videos below" in answer.stderr
    assert not (tmp_path / "lake/session").exists()


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("ingest", "internet", "empty"), "no videos below"),
        (("ingest", "internet", "bad.csv"), "no column named uri"),
        (("ingest", "multiview", "empty"), "no videos below"),
        (("ingest", "unreal", "empty"), "no render job below"),
        (
            ("generate", "--checkpoint", "runs", "--reference", "bad.csv", "--driving", "bad.csv"),
            "finished run in runs/1",
        ),
    ],
)
def test_a_wrong_input_is_an_error_before_anything_heavy_is_imported(
    tmp_path: Path, args: tuple[str, ...], message: str
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad.csv").write_text("name\na\n")
    (tmp_path / "runs/1/pipeline").mkdir(parents=True)
    (tmp_path / "runs/1/pipeline/model_index.json").write_text("{}")
    out = ("--out", "out.mp4") if args[0] == "generate" else ("--lake", "lake")
    code = (
        "import sys; from opendimo.dags.cli import main\n"
        f"try: main()\nfinally: print([m for m in {HEAVY} if m in sys.modules])"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code, *args, *out], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert answer.returncode == 1 and message in answer.stderr
    assert answer.stdout.strip() == "[]"


def test_status_of_an_empty_lake_is_json(tmp_path: Path) -> None:
    Lake(tmp_path / "lake")
    answer = dimo("status", "--lake", str(tmp_path / "lake"), "--json")
    stages = json.loads(answer.stdout)["stages"]
    names = ["sources", "clips", "duplicates", "hands", "rigs", "verdict", "poses", "captions", "latents", "pairs"]
    assert [s["stage"] for s in stages] == names
    assert all(s["inputs"] == 0 for s in stages)


def test_help_loads_nothing_heavy() -> None:
    heavy = "('torch', 'prefect', 'ray', 'lance', 'cv2')"
    code = f"import sys, opendimo.dags.cli; print([m for m in {heavy} if m in sys.modules])"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("release", "show", "nothing@1"), "no release nothing@1"),
        (
            ("encode", "--base", ".", "--num-frames", "10"),
            "a window needs 4k + 1 frames and a positive step, got 10, 1",
        ),
        (("train", "--release", "nothing@1", "--base", ".", "--out", "out"), "no release nothing@1"),
    ],
)
def test_mistakes_are_found_before_anything_starts(tmp_path: Path, args: tuple[str, ...], message: str) -> None:
    Lake(tmp_path / "lake")
    answer = dimo(*args, "--lake", str(tmp_path / "lake"))
    assert answer.returncode == 1
    assert message in answer.stderr
    assert len(answer.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "lake" / "session").exists()


def test_generate_checks_its_inputs_first(tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("no image")
    files = ["--reference", tmp_path / "text.png", "--driving", tmp_path / "text.png", "--checkpoint", tmp_path]
    wrong_suffix = dimo("generate", *map(str, files), "--out", str(tmp_path / "clip.txt"))
    assert "--out must end in .mp4" in wrong_suffix.stderr
    (tmp_path / "model_index.json").write_text("{}")
    bad_image = dimo("generate", *map(str, files), "--out", str(tmp_path / "clip.mp4"))
    assert "text.png: not a readable image" in bad_image.stderr


def test_a_prefect_server_that_does_not_answer_is_named(tmp_path: Path) -> None:
    Lake(tmp_path / "lake")
    server = f"http://127.0.0.1:{free_port()}"
    answer = dimo("release", "create", "dance", "--lake", str(tmp_path / "lake"), "--prefect-api", f"{server}/api")
    assert answer.returncode == 1
    [line] = answer.stderr.strip().splitlines()
    assert line.startswith(f"error: the Prefect server at {server} does not answer: ")
    assert line.endswith("then run the same command to go on")
