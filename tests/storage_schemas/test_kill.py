"""A run that is killed at any point and run again gives the same tables as an undisturbed run."""

from pathlib import Path
from typing import Any

import pytest

from opendimo.storage_schemas.lake import commit, runs
from opendimo.storage_schemas.lake.lake import Lake
from tests.rows import capture, clip_video
from tests.storage_schemas.killing import killed


def write(home: str) -> None:
    """Commit a run with two shards that replaces a row and contains a clip that is stored already."""
    lake = Lake(home)
    runs.begin(lake, "r1", {"shards": 2})
    for shard, (one, other) in enumerate([("a", "b"), ("b", "c")]):
        rows = {"captures": [capture(one), capture(other, take="new")]}
        runs.stage_shard(lake, "r1", shard, rows | {"clip_videos": [clip_video(one), clip_video(other)]}, {"n": 1})
    commit.commit(lake, "r1", lambda notes: {"stage": "test", "counts": {"in": sum(note["n"] for note in notes)}})


def stored(home: str) -> dict[str, Any]:
    """Return everything in the lake except time stamps."""
    lake = Lake(home)
    ledger = lake.read("ledger", ["table_name", "run_id", "rows", "replaced", "version", "counts", "stage"])
    videos = lake.read("clip_videos")
    return {
        "captures": lake.read("captures"),
        "videos": videos,
        "bytes": lake.blobs("clip_videos", "video", [row["clip_id"] for row in videos]),
        "ledger": sorted(ledger, key=lambda row: (row["run_id"], row["table_name"])),
        "unfinished": runs.unfinished(lake),
    }


def prepared(home: str) -> str:
    Lake(home).append("r0", {"captures": [capture("c", take="old", work_key="old")], "clip_videos": [clip_video("a")]})
    return home


@pytest.mark.slow
def test_killed_before_any_change_and_run_again(tmp_path: Path) -> None:
    undisturbed = prepared(str(tmp_path / "undisturbed"))
    write(undisturbed)
    step = 0
    while killed(step, write, home := prepared(str(tmp_path / str(step)))):
        write(home)
        assert stored(home) == stored(undisturbed), f"killed before change {step}"
        step += 1
    assert step > 10


@pytest.mark.parametrize("step", [8, pytest.param(10, marks=pytest.mark.slow)])
def test_killed_on_an_object_store_and_run_again(s3: str, monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    monkeypatch.setenv("OPENDIMO_LEASE_SECONDS", "2")
    monkeypatch.setattr("opendimo.storage_schemas.lake.lock.LEASE_SECONDS", 2.0)
    undisturbed = prepared(f"{s3}/undisturbed")
    write(undisturbed)
    home = prepared(f"{s3}/killed")
    assert killed(step, write, home)
    write(home)
    assert stored(home) == stored(undisturbed)


def stage_one(home: str, run_id: str, rows: dict[str, list[dict]]) -> Lake:
    lake = Lake(home)
    runs.begin(lake, run_id, {"shards": 1, "stage": "captures"})
    runs.stage_shard(lake, run_id, 0, rows, {})
    return lake


def commit_staged(home: str, run_id: str) -> None:
    commit.commit(Lake(home), run_id)


@pytest.mark.parametrize("step", [1, 2, 3, 4])
def test_another_run_completes_first_what_was_killed(tmp_path: Path, step: int) -> None:
    """Kill before writing the table, the ledger, `committed.json`, and before deleting `commit.json`."""
    home = str(tmp_path)
    old = stage_one(home, "r1", {"captures": [capture("a", take="old", work_key="1"), capture("b")]})
    stage_one(home, "r2", {"captures": [capture("a", take="new", work_key="2")]})
    assert killed(step, commit_staged, home, "r1")
    commit.commit(old, "r2")
    assert commit.commit(old, "r1") == {"captures": 2}
    assert [(row["capture_id"], row["take"]) for row in old.read("captures")] == [("a", "new"), ("b", "one")]
    assert {row["run_id"]: (row["rows"], row["replaced"]) for row in old.read("ledger")} == {"r1": (2, 0), "r2": (1, 1)}


def test_what_a_stage_makes_is_seen_after_what_it_refers_to(tmp_path: Path) -> None:
    home = str(tmp_path)
    lake = stage_one(home, "r1", {"captures": [capture("a")], "clip_videos": [clip_video("a")]})
    assert killed(2, commit_staged, home, "r1")  # after writing `commit.json` and the first table
    assert [len(lake.read(table)) for table in ("clip_videos", "captures")] == [1, 0]
