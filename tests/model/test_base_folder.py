"""Locating base models: local folders, and downloads from a local server that implements the hub's protocol."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from opendimo.model.base_folder import base_folder, encoders_id, part_config
from tests.model.hub_server import hub

FETCH = "import sys; from opendimo.model.base_folder import base_folder; print(base_folder(sys.argv[1]))"
ROOT = Path(__file__).parents[2]


def fetch(name: str, endpoint: str, home: Path) -> "subprocess.CompletedProcess[str]":
    """Fetch in a subprocess, because the hub's address is read when its library is imported."""
    environment = os.environ | {"HF_ENDPOINT": endpoint, "HF_HOME": str(home), "PYTHONPATH": str(ROOT)}
    environment.pop("HF_HUB_OFFLINE", None)
    return subprocess.run(
        [sys.executable, "-c", FETCH, name], env=environment, capture_output=True, text=True, timeout=120, check=False
    )


def contents(folder: Path) -> dict[str, bytes]:
    return {str(f.relative_to(folder)): f.read_bytes() for f in folder.rglob("*") if f.is_file()}


def test_a_folder_is_what_it_is(tiny_base: Path) -> None:
    assert base_folder(tiny_base) == tiny_base == base_folder(str(tiny_base))


def test_a_model_of_the_hub_is_fetched_once_and_without_pickles(tiny_base: Path, tmp_path: Path) -> None:
    served = tmp_path / "served"
    shutil.copytree(tiny_base, served)
    (served / "vae" / "old.bin").write_bytes(b"pickled")
    (served / "notes.md").write_text("not needed")
    (served / "README.md").write_text("---\nlicense: apache-2.0\n---\n")
    with hub("wan-ai/tiny", served) as (endpoint, requests):
        first = fetch("wan-ai/tiny", endpoint, tmp_path / "home")
        assert first.returncode == 0, first.stderr
        requests.clear()
        assert fetch("wan-ai/tiny", endpoint, tmp_path / "home").stdout == first.stdout
    assert [path for path in requests if path.startswith("GET") and "/resolve/" in path] == []
    expected = contents(tiny_base) | {"README.md": (served / "README.md").read_bytes()}
    assert contents(Path(first.stdout.strip())) == expected


def test_what_the_hub_does_not_know_is_one_clear_line(tmp_path: Path) -> None:
    with hub("wan-ai/tiny", tmp_path) as (endpoint, _):
        failed = fetch("wan-ai/huge", endpoint, tmp_path / "home")
    assert "ValueError: wan-ai/huge is not a folder, and the hub does not provide a model of that name" in failed.stderr


@pytest.mark.parametrize("name", ["missing", "../up/there", "a/b/c", "/no/where", "org/name@"])
def test_what_is_neither_is_refused_without_asking(name: str) -> None:
    with pytest.raises(ValueError, match="give a folder in the diffusers layout, or ORG/NAME"):
        base_folder(name)


@pytest.mark.parametrize("content", ["{", "[]", "\udcff"])
def test_a_broken_config_of_a_part_is_named(content: str, tmp_path: Path) -> None:
    (tmp_path / "vae").mkdir()
    (tmp_path / "vae" / "config.json").write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(ValueError, match=r"vae/config\.json (is not JSON|holds a list).*: copy the base model again"):
        part_config(tmp_path, "vae")


def test_a_missing_part_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"not a base model .*/scheduler/scheduler_config\.json is missing"):
        part_config(tmp_path, "scheduler")


def test_what_made_latents_is_named_by_its_classes_and_bytes(tmp_path: Path) -> None:
    files = {
        "vae/config.json": '{"_class_name": "AutoencoderKLWan"}',
        "vae/weights.safetensors": "weights",
        "text_encoder/config.json": '{"architectures": ["UMT5EncoderModel"]}',
        "tokenizer/parts/words.txt": "words",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    # stored in data lakes, so it must never change
    expected = "AutoencoderKLWan+UMT5EncoderModel:d1ad61f3fc1d0798efc47ffeabb5a8a0"
    assert encoders_id(tmp_path) == expected
    (tmp_path / "model_index.json").write_text("{}")
    assert encoders_id(tmp_path) == expected
    (tmp_path / "tokenizer/parts/words.txt").write_text("other")
    assert encoders_id(tmp_path) != expected
