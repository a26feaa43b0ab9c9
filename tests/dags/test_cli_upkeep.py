"""Test output, JSON and error messages of the maintenance commands."""

import json
import os
from pathlib import Path

import pytest

from opendimo.storage_schemas.lake.lake import Lake
from opendimo.storage_schemas.lake.takedown import reasons, taken_down
from opendimo.storage_schemas.releases.release import create_release
from tests.dags.command import dimo
from tests.storage_schemas.upkeep_lake import small_lake


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return small_lake(str(tmp_path / "lake"))


@pytest.mark.parametrize("command", ["clean", "tables", "takedown", "migrate"])
def test_help_has_an_example(command: str) -> None:
    answer = dimo(command, "--help")
    assert answer.returncode == 0
    assert f"dimo {command}" in answer.stdout


def test_tables_show_sizes_and_pins(lake: Lake) -> None:
    create_release(lake, "demo")
    rows = {row["table"]: row for row in json.loads(dimo("tables", "--lake", lake.uri, "--json").stdout)}
    assert (rows["clips"]["rows"], rows["clips"]["pinned_by"]) == (3, ["release.demo.1"])
    assert "clip_videos" in dimo("tables", "--lake", lake.uri).stdout


def test_a_takedown_says_what_it_concerns(lake: Lake) -> None:
    create_release(lake, "demo")
    base = ("takedown", "--lake", lake.uri, "--source-id", "s-b", "--reason", "asked for", "--by", "ann")
    preview = dimo(*base, "--dry-run")
    assert "affected: source_id s-b: 1 sources, 1 clips" in preview.stdout
    assert "demo@1" in preview.stdout
    assert reasons(lake) == []
    done = dimo(*base)
    assert "taken down: source_id s-b" in done.stdout
    assert "The next release excludes them." in done.stdout
    assert taken_down(lake).to_pylist() == ["s-b"]
    assert create_release(lake, "demo")["pairs"] == 2
    lifted = json.loads(dimo(*base, "--lift", "--json").stdout)
    assert (lifted["lift"], lifted["sources"], lifted["releases"]) == (True, 1, {"demo@1": 1})
    assert taken_down(lake).to_pylist() == []


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("takedown", "--reason", "x", "--by", "y"), "by exactly one of --source-id, --content, --licence, --subject"),
        (("takedown", "--licence", "GPL", "--reason", "x", "--by", "y"), "has licence 'GPL'"),
        (("clean", "--older-than", "soon"), "write a number and d, h, m or s"),
    ],
)
def test_mistakes_are_one_line(lake: Lake, args: tuple[str, ...], message: str) -> None:
    answer = dimo(*args, "--lake", lake.uri)
    assert answer.returncode == 1
    assert message in answer.stderr
    assert len(answer.stderr.strip().splitlines()) == 1
    assert not (lake.local / "session").exists()


def test_a_dry_run_of_clean_changes_nothing_and_starts_nothing(lake: Lake) -> None:
    before = {name: size for name, size in lake.store.sizes("").items() if not name.startswith("locks/")}
    answer = dimo("clean", "--lake", lake.uri, "--older-than", "0s", "--dry-run")
    assert answer.returncode == 0
    assert "Would be deleted" in answer.stdout
    assert {name: size for name, size in lake.store.sizes("").items() if not name.startswith("locks/")} == before


def test_clean_is_a_flow_that_frees_and_keeps_what_is_pinned(lake: Lake) -> None:
    create_release(lake, "demo")
    lake.append("more", {"sources": []})
    parts = _abandoned_downloads(lake)
    command = ("clean", "--lake", lake.uri, "--older-than", "0s", "--json")
    preview, done = dimo(*command, "--dry-run"), dimo(*command)
    assert done.returncode == 0, done.stderr
    for answer in (preview, done):
        freed = {place["where"]: place for place in json.loads(answer.stdout)["freed"]}
        assert freed["runs"]["files"] > 0
        assert freed["tables/clips"]["kept"] == ["version 2: release.demo.1"]
        assert (freed["downloads"]["files"], freed["downloads"]["bytes"]) == (3, 6)
        assert freed["temporary files"]["files"] == 1
    assert lake.blobs("clip_videos", "video", ["a"]) == [b"a" * 20_000]
    assert not any(parts.iterdir())


def _abandoned_downloads(lake: Lake) -> Path:
    parts = lake.local / "downloads" / "parts"
    parts.mkdir(parents=True)
    for name in ("0ab.part", "0ab.json", "0ab.lock", ".0ab.json.12.tmp"):
        (parts / name).write_text("{}")
        os.utime(parts / name, (0, 0))
    return parts


def test_migrate_says_that_there_is_nothing_to_do(lake: Lake) -> None:
    answer = dimo("migrate", "--lake", lake.uri)
    assert answer.returncode == 0
    assert "nothing to do" in answer.stdout
