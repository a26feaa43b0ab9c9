"""Check what READMEs show: commands and options exist, snippets of Python run, and so do commands that are cheap."""

import json
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from typer.main import get_command

from opendimo.dags.cli import app
from opendimo.model.config import DiMoConfig
from opendimo.model.dimo import DiMo
from opendimo.model.pipeline import DiMoPipeline
from opendimo.model.tiny import make_tiny_base
from opendimo.pipelines.progress.status import STAGES
from opendimo.storage_schemas.lake.lake import Lake
from opendimo.storage_schemas.media.video import encode
from opendimo.storage_schemas.releases.policy import ReleasePolicy
from opendimo.storage_schemas.releases.release import create_release
from opendimo.training import config
from opendimo.training.miniature.people import make_studio_take
from opendimo.training.schedule import three_stages
from tests.dags.command import dimo
from tests.model.pipelines import WINDOW
from tests.pipelines.calibration_files import ROTATIONS, SIZE, write_json
from tests.rows import row
from tests.training.conftest import CAPTURES, fill

ROOT = Path(__file__).parents[1]
LISTED = subprocess.run(["git", "ls-files", "*.md"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
PAGES = [ROOT / name for name in LISTED.split()]
COMMAND = re.compile(r"^ *(?:\$ )?(dimo [a-z].*?)(?:   +[^\s-].*)?$|`(dimo [a-z][^`]*)`", re.MULTILINE)
SNIPPET = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
GPU_LINES = ("pipeline.enable_model_cpu_offload()",)
"""Lines of snippets that are left out on a machine without a GPU."""
HOLDS = {
    "model/README.md": "Path('out.mp4').stat().st_size > 1000",
    "pipelines/README.md": "account.done == 10 and not account.rejected",
    "pipelines/captions/README.md": "CaptionsConfig().vlm is None",
    "pipelines/sources/README.md": "len(works) == 2 and not outcome.rejects",
    "storage_schemas/README.md": "video.startswith(head)",
    "training/README.md": "Path('runs/1/checkpoints/step-000004').is_dir()",
}
"""A condition on the names and files that the snippets of a README leave behind."""
NOT_RUN = {
    "dimo caption": "starts Prefect and Ray",
    "dimo clean --lake lake --older-than": "starts Prefect",
    "dimo demo": "starts Prefect and Ray, takes minutes",
    "dimo doctor": "depends on the machine, takes 10 seconds",
    "dimo push": "publishes",
    "dimo serve": "runs until it is stopped; see tests/dags/test_serve.py",
    "dimo encode": "starts Prefect and Ray",
    "dimo evaluate": "needs two trained checkpoints",
    "dimo generate": "takes 10 seconds; the snippet of model/README.md does the same",
    "dimo ingest": "starts Prefect and Ray",
    "dimo label": "starts Prefect and Ray",
    "dimo overlay": "needs a labelled clip; see tests/pipelines/test_overlay.py",
    "dimo plan ingest": "downloads",
    "dimo release approve": "starts Prefect",
    "dimo release create": "starts Prefect",
    "dimo release export dance@1 --format webdataset|huggingface": "is a list of alternatives",
    "dimo release reject": "withdraws the release that other commands use",
    "dimo release rollback": "starts Prefect",
    "dimo release show |": "is a list of alternatives",
    "dimo report": "needs a finished evaluation",
    "dimo train": "starts Prefect and Ray",
}
"""Beginnings of commands that are only parsed, with the reason."""


def commands() -> Iterator[tuple[str, str, bool]]:
    """Yield page and text of every `dimo ...`, and whether it is a line of a block; without comments."""
    for page in PAGES:
        for block, inline in COMMAND.findall(page.read_text()):
            text = re.sub(r"(dimo \w+) +", r"\1 ", block or inline).split("  #")[0]
            yield str(page.relative_to(ROOT)), text, bool(block)


def snippets() -> dict[str, list[str]]:
    """Return the blocks of Python of every page that has some."""
    found = {str(page.relative_to(ROOT)): SNIPPET.findall(page.read_text()) for page in PAGES}
    return {page: blocks for page, blocks in found.items() if blocks}


def ledger_row(lake: Lake, stage: str) -> dict[str, Any]:
    """Return the ledger's entry of a run that did all work of a stage."""
    inputs = len(set(lake.column(stage, "work_key").to_pylist()))
    counts = json.dumps({"in": inputs})
    return row("ledger", entry_id=stage, run_id=stage, stage=stage, table_name=stage, config="{}", counts=counts)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with all files that snippets and commands name."""
    folder = tmp_path_factory.mktemp("workspace")
    base = make_tiny_base(folder / "models" / "tiny")
    lake = Lake(folder / "lake")
    names = [f"{capture} {view}" for capture, (_, views, _) in CAPTURES.items() for view in views]
    sources = [row("sources", source_id=name, work_key=name, licence="CC-BY-NC-4.0") for name in names]
    lake.append("sources", {"sources": sources})
    fill(lake, base)
    lake.append("counts", {"ledger": [ledger_row(lake, stage) for stage in STAGES]})
    shutil.copytree(folder / "lake", folder / "demo-out" / "lake")
    create_release(lake, "dance")
    create_release(lake, "dance", ReleasePolicy(floors={"clips.sharpness": 20}))
    (folder / "quality.toml").write_text("min_frames = 33\n")

    pipeline = DiMoPipeline.from_base(base, DiMo.from_base(base, DiMoConfig.tiny()), **WINDOW)
    pipeline.save_pretrained(folder / "runs" / "1" / "pipeline")
    person = make_studio_take(3).views[0].frames
    Image.fromarray(person[0]).save(folder / "person.png")
    (folder / "dance.mp4").write_bytes(encode(person, Fraction(15)))

    (folder / "rigs").mkdir()
    write_json(folder / "rigs" / "calib.json")
    for name in ROTATIONS:
        image = np.full((SIZE[1], SIZE[0], 3), 120, np.uint8)
        (folder / "rigs" / f"{name}.mp4").write_bytes(encode([image] * 4, Fraction(30)))
    return folder


def short_preset(*args: Any) -> config.TrainConfig:
    """Shorten a preset to four steps, since a training run with `tiny` takes minutes."""
    follow = config.FollowPolicy(every=100, pairs=1)
    return replace(config_preset(*args), schedule=three_stages((2, 1, 1), lr=1e-3), batch_size=2, follow=follow)


config_preset = config.preset


@pytest.mark.parametrize("page", snippets())
def test_snippets_run(page: str, workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the snippets of a page in order, in one namespace."""
    monkeypatch.chdir(workspace)
    monkeypatch.setattr(config, "preset", short_preset)
    names: dict[str, Any] = {"__name__": "__main__"}
    for code in snippets()[page]:
        lines = [line for line in code.splitlines() if torch.cuda.is_available() or line not in GPU_LINES]
        exec(compile("\n".join(lines), page, "exec"), names)
    assert eval(HOLDS[page], {**names, "Path": Path})


@pytest.mark.parametrize(("page", "text"), sorted({(page, text) for page, text, _ in commands()}))
def test_commands_and_their_options_exist(page: str, text: str) -> None:
    words = shlex.split(text.replace("|", " "), comments=True)[1:]
    command: Any = get_command(app)
    while words and hasattr(command, "commands") and not words[0].startswith("-"):
        assert words[0] in command.commands, f"{page}: no command {words[0]} in {text!r}"
        command = command.commands[words.pop(0)]
    known = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
    unknown = [word for word in words if word.startswith("-") and word.split("=")[0] not in {*known, "--help"}]
    assert not unknown, f"{page}: {text!r}"


RUN = list(dict.fromkeys(text for _, text, block in commands() if block and not text.startswith(tuple(NOT_RUN))))


@pytest.mark.parametrize("text", RUN)
def test_cheap_commands_run(text: str, workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(workspace)
    answer = dimo(*shlex.split(text, comments=True)[1:])
    assert answer.returncode == 0, answer.stderr


def test_no_excuse_is_stale() -> None:
    texts = [text for _, text, _ in commands()]
    assert [start for start in NOT_RUN if not any(text.startswith(start) for text in texts)] == []
    shown = "\n".join(block for blocks in snippets().values() for block in blocks).splitlines()
    assert [line for line in GPU_LINES if line not in shown] == []
