"""Test `dimo plan`, `dimo retry` and `dimo status`: forecasts, retries and failures."""

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from opendimo.pipelines.engine.planned import Planned
from opendimo.pipelines.engine.planning import finish, prepare, stage_outcome
from opendimo.pipelines.sources import SourcesConfig, SourcesStage, discover
from opendimo.storage_schemas.lake.lake import Lake
from opendimo.storage_schemas.media.video import encode
from tests.dags.command import dimo
from tests.pipelines.caption_lake import clip_row
from tests.pipelines.cheap_stage import CheapStage, run_all

STATES = ("in", "done", "failed", "waiting", "left", "stale", "new", "due")


def answer(*args: str | Path) -> Any:
    result = dimo(*args, "--json")
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with two videos and a text file named like a video."""
    root = tmp_path / "clips"
    root.mkdir()
    for k, name in enumerate(("a.mp4", "b.mp4")):
        (root / name).write_bytes(encode([np.full((32, 32, 3), 90 * k, np.uint8)] * 5, Fraction(24)))
    (root / "text.mp4").write_text("this is no video")
    return root


def files(root: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in root.rglob("*")}


def ingest(lake: Lake, folder: Path) -> None:
    stage = SourcesStage(lake.uri, SourcesConfig())
    planned = Planned.of(discover("internet", folder, stage.config))
    with prepare(lake, stage, planned, shard_size=2) as run:
        for k, shard in enumerate(run.shards):
            outcome = stage.run(shard)
            outcome.times = {work.key: (0, 10**9) for work in shard}
            stage_outcome(lake, run.shard(k), stage, outcome)
        finish(lake, run)


def test_a_plan_for_a_lake_that_is_not_there_makes_none(folder: Path, tmp_path: Path) -> None:
    sources, clips, *_ = answer("plan", "ingest", "internet", folder, "--lake", tmp_path / "lake")
    assert (sources["stage"], sources["inputs"], sources["new"], sources["left"]) == ("sources", 3, 3, 3)
    assert (clips["stage"], clips["inputs"], clips["seconds"], clips["bytes"]) == ("clips", 0, None, None)
    assert not (tmp_path / "lake").exists()


def test_a_plan_writes_nothing_and_says_what_is_done_and_what_comes_next(folder: Path, tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    ingest(lake, folder)
    before = files(tmp_path)
    sources, clips, *_ = answer("plan", "ingest", "internet", folder, "--lake", lake.uri)
    assert (sources["inputs"], sources["done"], sources["failed"], sources["left"]) == (3, 2, 1, 0)
    assert (clips["inputs"], clips["new"], clips["left"]) == (2, 2, 2)
    sources, *_ = answer("plan", "ingest", "internet", folder, "--lake", lake.uri, "--licence", "CC0-1.0")
    assert (sources["stale"], sources["new"], sources["left"]) == (2, 1, 3)
    assert sources["seconds"] > 0 and sources["bytes"] > 0
    assert files(tmp_path) == before


def test_where_no_run_is_known_a_few_items_are_tried_and_everything_is_extrapolated(
    folder: Path, tmp_path: Path
) -> None:
    plan = ("plan", "ingest", "internet", folder, "--lake", tmp_path / "lake")
    assert "no run yet" in dimo(*plan).stdout
    sources, clips, *_ = answer(*plan, "--sample", "4")
    assert sources["tried"] and clips["tried"] and (clips["left"], clips["later"]) == (0, 2)
    assert clips["seconds"] > 0 and clips["bytes"] > 0 and "sampled" in clips["basis"]
    assert not (tmp_path / "lake").exists()


def test_what_is_tried_of_a_lake_that_has_sources_says_what_comes_of_others(folder: Path, tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    ingest(lake, folder)
    for k in range(3):
        (folder / f"more-{k}.mp4").write_bytes(encode([np.full((32, 32, 3), 50 * k, np.uint8)] * 5, Fraction(24)))
    plan = ("plan", "ingest", "internet", folder, "--lake", lake.uri, "--sample", "4")
    sources, clips, *_ = answer(*plan)
    assert (sources["tried"], sources["new"]) == (False, 3)
    assert (clips["tried"], clips["left"], clips["later"]) == (True, 2, 2)  # two of three sources were not rejected


def test_a_plan_takes_the_options_of_its_command_and_names_its_mistakes(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    failed = dimo("plan", "caption", "--lake", lake.uri, "--server", "http://nowhere")
    assert failed.returncode == 1 and "--server needs --vlm" in failed.stderr
    assert "--num-frames" in dimo("plan", "encode", "--help").stdout
    assert "is not a lake" in dimo("plan", "label", "--lake", tmp_path / "nothing").stderr


def test_a_plan_of_everything_has_a_line_per_stage(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    lake.append("clips", {"clips": [clip_row("a"), clip_row("b", people=3.0)]})
    forecasts = {row["stage"]: row for row in answer("plan", "all", "--lake", lake.uri)}
    assert list(forecasts) == ["clips", "duplicates", "hands", "rigs", "poses", "captions"]
    stages = ("clips", "hands", "rigs", "poses", "captions")
    assert [forecasts[stage]["left"] for stage in stages] == [0, 2, 0, 1, 1]
    table = dimo("plan", "all", "--lake", lake.uri).stdout
    assert all(word in table for word in (*STATES, "poses", "unknown"))
    policy = tmp_path / "quality.toml"
    policy.write_text("max_people = 5.0")
    forecasts = {row["stage"]: row for row in answer("plan", "all", "--lake", lake.uri, "--policy", policy)}
    assert [forecasts[stage]["left"] for stage in ("poses", "captions")] == [2, 2]


def test_failures_are_retried_on_request_with_the_command_to_run(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    items = [f"item-{k}" for k in range(5)]
    run_all(lake, CheapStage(busy=frozenset(items[:3]), corrupt=frozenset(items[3:4])), items)
    status = answer("status", "--lake", lake.uri)
    captions = next(row for row in status["stages"] if row["stage"] == "captions")
    assert (captions["rejected"], captions["waiting"], captions["due"]) == ({"transient": 3, "data": 1}, 3, 0)
    assert sorted((group["count"], group["message"]) for group in status["rejects"]) == [
        (1, "name of item-3 is corrupt"), (3, "the server is busy"),
    ]  # fmt: skip
    for _ in range(2):
        retried = answer("retry", "--lake", lake.uri, "--class", "transient")
        assert [group["count"] for group in retried["due"]] == [3]
        assert (retried["refused"], retried["commands"]) == ([], ["dimo caption"])
    assert "`dimo caption`" in dimo("retry", "--lake", lake.uri).stdout
    assert next(row for row in answer("status", "--lake", lake.uri)["stages"] if row["stage"] == "captions")["due"] == 4
    assert "no failed work matches" in dimo("retry", "--lake", lake.uri, "--stage", "poses").stdout


@pytest.mark.parametrize(("option", "value"), [("--class", "bad"), ("--stage", "dreams")])
def test_an_unknown_class_or_stage_is_named(tmp_path: Path, option: str, value: str) -> None:
    Lake(tmp_path / "lake")
    result = dimo("retry", "--lake", tmp_path / "lake", option, value)
    assert result.returncode == 1
    assert f"{option} '{value}': use one of" in result.stderr and len(result.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize("command", ["plan all", "retry"])
def test_help_has_an_example(command: str) -> None:
    assert f"dimo {command}" in dimo(*command.split(), "--help").stdout
