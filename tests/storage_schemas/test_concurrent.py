"""Concurrent commits from many processes, with identical and overlapping batches."""

import multiprocessing
import random
from typing import Any

import pytest

from opendimo.storage_schemas.lake.lake import Lake
from tests.rows import capture, clip_video

SPAWN = multiprocessing.get_context("spawn")
KEYS = [f"k{k:02d}" for k in range(40)]


def batch(number: int) -> dict[str, Any]:
    keys = random.Random(number).sample(KEYS, 12)
    videos = [clip_video(key, key.encode() * 1000) for key in keys]
    return {"clip_videos": videos, "captures": [capture(key) for key in keys]}


def submit(home: str, seed: int) -> None:
    """Commit six of eight batches in random order, under run ids that all processes share."""
    lake = Lake(home)
    for number in random.Random(seed).sample(range(8), 6):
        lake.append(f"run{number}", batch(number))


def check(home: str, processes: int) -> None:
    running = [SPAWN.Process(target=submit, args=(home, seed)) for seed in range(processes)]
    for process in running:
        process.start()
    for process in running:
        process.join(240)
        assert process.exitcode == 0
    lake = Lake(home)
    stored = [row["clip_id"] for row in lake.read("clip_videos", ["clip_id"])]
    expected = sorted({row["clip_id"] for number in range(8) for row in batch(number)["clip_videos"]})
    assert stored == expected
    assert [row["capture_id"] for row in lake.read("captures", ["capture_id"])] == expected
    assert lake.blobs("clip_videos", "video", stored) == [key.encode() * 1000 for key in stored]
    ledger = lake.read("ledger", ["run_id", "table_name", "rows"])
    assert len(ledger) == 16
    assert sum(row["rows"] for row in ledger if row["table_name"] == "clip_videos") == len(expected)


@pytest.mark.slow
def test_sixteen_processes_leave_unique_ids(tmp_path: Any) -> None:
    check(str(tmp_path / "lake"), 16)


def test_processes_share_a_lake_on_an_object_store(s3: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENDIMO_LEASE_SECONDS", "10")
    check(s3, 4)
