"""A hundred random SIGKILLs in writers, committer, compaction, release and cleaning do not change the final lake."""

import multiprocessing
import random
import signal
import time
from datetime import timedelta
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest

from opendimo.storage_schemas.lake import commit, runs
from opendimo.storage_schemas.lake.compact import compact
from opendimo.storage_schemas.lake.lake import Lake
from opendimo.storage_schemas.lake.maintain import clean
from opendimo.storage_schemas.releases.release import create_release, list_releases, open_release
from opendimo.storage_schemas.releases.verify import verify
from tests.rows import capture, clip, clip_video, pair, source
from tests.storage_schemas.release_rows import video

FORK = multiprocessing.get_context("forkserver")  # a fork of a process in which Lance runs hangs
RUNS, SHARDS = 5, 6
LAKES, KILLS = 10, 16


def rows(run: int, shard: int) -> dict[str, list[dict[str, Any]]]:
    """Return the rows of a shard: a clip shared with the previous shard, and facts newer than in the previous run."""
    names = [f"c{run}-{max(0, shard - (k == 2)) * 10 + k % 2}" for k in (2, 0, 1)]
    names = list(dict.fromkeys(names))
    return {
        "sources": [source(f"{shard}", work_key=f"w{run}", size=run)],
        "captures": [capture(f"cap{shard}", take=f"take {run}", work_key=f"w{run}")],
        "clips": [clip(name, source_id=f"s-{shard}") for name in names],
        "clip_videos": [clip_video(name, video(name)) for name in names],
        "pairs": [pair(name, capture_id=f"cap{shard}") for name in names],
    }


def stage(home: str, worker: int) -> None:
    """Stage every second shard of every unfinished run."""
    lake = Lake(home)
    while True:
        for plan in runs.unfinished(lake):
            run = int(plan["run_id"].removeprefix("run")) if plan["run_id"].startswith("run") else None
            for shard in range(worker, SHARDS, 2) if run is not None else ():
                runs.stage_shard(lake, f"run{run}", shard, rows(run, shard), {"done": 3})
        time.sleep(0.01)


def drive(home: str) -> None:
    """Commit five runs, with a release after the third, and compaction and cleaning after each of the last three."""
    lake = Lake(home)
    for run in range(RUNS):
        run_id = f"run{run}"
        runs.begin(lake, run_id, {"shards": SHARDS})
        while not runs.is_committed(lake, run_id) and any(
            runs.staged(lake, run_id, shard) is None for shard in range(SHARDS)
        ):
            time.sleep(0.01)
        commit.commit(lake, run_id, lambda notes: {"counts": {"in": sum(note["done"] for note in notes)}})
        if run >= 2:
            if run == 2 and not list_releases(lake):
                create_release(lake, "fixed")
            compact(lake)
            clean(lake, timedelta(0))


def finish(home: str) -> float:
    """Run all runs to the end without kills; return the duration in seconds."""
    started = time.monotonic()
    workers = [begin(stage, home, k) for k in range(2)]
    driver = begin(drive, home)
    driver.join(240)
    for worker in workers:
        end(worker)
    assert driver.exitcode == 0
    return time.monotonic() - started


def begin(target: Any, *args: Any) -> BaseProcess:
    process = FORK.Process(target=target, args=args, daemon=True)
    process.start()
    return process


def end(process: BaseProcess) -> None:
    process.kill()
    process.join()


def stored(home: str) -> dict[str, Any]:
    """Return everything in the lake except time stamps and history."""
    lake = Lake(home)
    tables = {name: lake.read(name) for name in ("sources", "captures", "clips", "clip_videos", "pairs")}
    ledger = lake.read("ledger", ["run_id", "table_name", "rows", "replaced", "counts"], "run_id LIKE 'run%'")
    clips = [row["clip_id"] for row in tables["clip_videos"]]
    release = open_release(home, "fixed@1")
    assert not verify(lake, "fixed@1", deep=True).damaged
    return tables | {
        "bytes": lake.blobs("clip_videos", "video", clips),
        "ledger": sorted(ledger, key=lambda row: (row["run_id"], row["table_name"])),
        "release": [release.read(name) for name in ("pairs", "clips", "captures", "sources")],
        "unfinished": runs.unfinished(lake),
    }


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_a_hundred_random_kills_leave_no_trace(tmp_path: Path) -> None:
    FORK.set_forkserver_preload(
        ["opendimo.storage_schemas.releases.verify", "opendimo.storage_schemas.lake.maintain", __name__]
    )
    undisturbed = str(tmp_path / "undisturbed")
    Lake(undisturbed)
    usual = finish(undisturbed)
    expected, kills, where = stored(undisturbed), 0, []
    for number in range(LAKES):
        home, chance = str(tmp_path / str(number)), random.Random(number)
        Lake(home)
        victims = [begin(stage, home, 0), begin(stage, home, 1), begin(drive, home)]
        for _ in range(KILLS):
            time.sleep(chance.uniform(0.02, usual / 12))
            k = chance.choice([0, 1, 2, 2, 2])
            if victims[k].exitcode is None:
                end(victims[k])
                kills += victims[k].exitcode == -signal.SIGKILL  # unless it ended by itself just then
            victims[k] = begin(*((drive, home) if k == 2 else (stage, home, k)))
        for victim in victims:
            end(victim)
        where.append(len(runs.unfinished(Lake(home))))
        finish(home)
        assert stored(home) == expected, f"lake {number}"
    print(f"{kills} processes killed, an undisturbed run takes {usual:.1f} s")
    assert kills >= 100
