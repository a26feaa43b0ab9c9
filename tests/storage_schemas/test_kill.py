"""Killed anywhere and run again, the tables come out as if nothing had happened."""

import multiprocessing
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lance
import pytest
from lance.dataset import MergeInsertBuilder

from storage_schemas import commit
from storage_schemas.lake import Lake
from storage_schemas.store import LocalStore, ObjectStore
from tests.storage_schemas.small_rows import capture_row, video_row

SPAWN = multiprocessing.get_context("spawn")
STEPS = [
    (LocalStore, "write"),
    (LocalStore, "create"),
    (ObjectStore, "write"),
    (ObjectStore, "create"),
    (commit, "write_fragments"),
    (lance.LanceDataset, "commit"),
    (MergeInsertBuilder, "execute"),
]
"""Everything that changes a lake."""


def die_at(step: int) -> None:
    """Die by SIGKILL right before change number `step` of the lake."""
    done = 0

    def dying(original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal done
            done += 1
            if done > step:
                os.kill(os.getpid(), signal.SIGKILL)
            return original(*args, **kwargs)

        return call

    for owner, name in STEPS:
        setattr(owner, name, dying(getattr(owner, name)))


def write(home: str) -> None:
    """Two shards and a row that is replaced, one clip of which is stored already."""
    lake = Lake(home)
    commit.begin(lake, "r1", {"shards": 2})
    for shard, (one, other) in enumerate([("a", "b"), ("b", "c")]):
        rows = {"captures": [capture_row(one), capture_row(other, take="new")]}
        commit.stage_shard(lake, "r1", shard, rows | {"clip_videos": [video_row(one), video_row(other)]}, {"n": 1})
    commit.commit(lake, "r1", lambda notes: {"stage": "test", "counts": {"in": sum(note["n"] for note in notes)}})


def write_until(home: str, step: int) -> None:
    die_at(step)
    write(home)


def stored(home: str) -> dict[str, Any]:
    """Everything in the lake that does not tell the time."""
    lake = Lake(home)
    ledger = lake.read("ledger", ["table_name", "run_id", "rows", "replaced", "version", "counts", "stage"])
    videos = lake.read("clip_videos")
    return {
        "captures": lake.read("captures"),
        "videos": videos,
        "bytes": lake.blobs("clip_videos", "video", [row["clip_id"] for row in videos]),
        "ledger": sorted(ledger, key=lambda row: (row["run_id"], row["table_name"])),
        "unfinished": commit.unfinished(lake),
    }


def prepared(home: str) -> str:
    Lake(home).append(
        "r0", {"captures": [capture_row("c", take="old", work_key="old")], "clip_videos": [video_row("a")]}
    )
    return home


@pytest.mark.slow
def test_killed_before_any_change_and_run_again(tmp_path: Path) -> None:
    undisturbed = prepared(str(tmp_path / "undisturbed"))
    write(undisturbed)
    step = 0
    while True:
        home = prepared(str(tmp_path / str(step)))
        process = SPAWN.Process(target=write_until, args=(home, step))
        process.start()
        process.join(60)
        if process.exitcode == 0:
            break
        assert process.exitcode == -signal.SIGKILL
        write(home)
        assert stored(home) == stored(undisturbed), f"killed before change {step}"
        step += 1
    assert step > 10


@pytest.mark.parametrize("step", [8, 10])
def test_killed_on_an_object_store_and_run_again(s3: str, monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    monkeypatch.setenv("OPENDIMO_LEASE_SECONDS", "2")
    monkeypatch.setattr("storage_schemas.lock.LEASE_SECONDS", 2.0)
    undisturbed = prepared(f"{s3}/undisturbed")
    write(undisturbed)
    home = prepared(f"{s3}/killed")
    process = SPAWN.Process(target=write_until, args=(home, step))
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    write(home)
    assert stored(home) == stored(undisturbed)


def stage_one(home: str, run_id: str, rows: dict[str, list[dict]]) -> Lake:
    lake = Lake(home)
    commit.begin(lake, run_id, {"shards": 1, "stage": "captures"})
    commit.stage_shard(lake, run_id, 0, rows, {})
    return lake


def commit_until(home: str, run_id: str, step: int) -> None:
    lake = Lake(home)
    die_at(step)
    commit.commit(lake, run_id)


def killed_in_commit(home: str, run_id: str, step: int) -> None:
    process = SPAWN.Process(target=commit_until, args=(home, run_id, step))
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL


@pytest.mark.parametrize("step", [1, 2, 3])
def test_another_run_completes_first_what_was_killed(tmp_path: Path, step: int) -> None:
    """Steps: the decision, the table, the ledger, the end."""
    home = str(tmp_path)
    old = stage_one(home, "r1", {"captures": [capture_row("a", take="old", work_key="1"), capture_row("b")]})
    stage_one(home, "r2", {"captures": [capture_row("a", take="new", work_key="2")]})
    killed_in_commit(home, "r1", step)
    commit.commit(old, "r2")
    assert commit.commit(old, "r1") == {"captures": 2}
    assert [(row["capture_id"], row["take"]) for row in old.read("captures")] == [("a", "new"), ("b", "one")]
    assert {row["run_id"]: (row["rows"], row["replaced"]) for row in old.read("ledger")} == {"r1": (2, 0), "r2": (1, 1)}


def test_what_a_stage_makes_is_seen_after_what_it_refers_to(tmp_path: Path) -> None:
    home = str(tmp_path)
    lake = stage_one(home, "r1", {"captures": [capture_row("a")], "clip_videos": [video_row("a")]})
    killed_in_commit(home, "r1", 2)  # after the decision and the first table
    assert [len(lake.read(table)) for table in ("clip_videos", "captures")] == [1, 0]
