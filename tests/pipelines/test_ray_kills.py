"""Drivers and Ray workers are killed at random; after a restart the tables equal those of an undisturbed run."""

import multiprocessing
import os
import random
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from opendimo.pipelines.engine.planning import finish, prepare
from opendimo.pipelines.engine.runner import Pool, ray_session
from opendimo.pipelines.engine.stage import Outcome, Work
from opendimo.pipelines.progress.status import funnel
from opendimo.pipelines.quality.policy import Policy
from opendimo.storage_schemas.lake.lake import Lake
from opendimo.storage_schemas.lake.runs import unfinished
from tests.pipelines.cheap_stage import CheapStage

SPAWN = multiprocessing.get_context("spawn")
ITEMS = [f"item-{k:02d}" for k in range(60)]
ROUNDS = 5


class SlowStage(CheapStage):
    """Is slow, and creates a file named after the id of its process."""

    folder = ""

    def run(self, batch: list[Work]) -> Outcome:
        time.sleep(0.05)
        Path(self.folder, str(os.getpid())).touch()
        return super().run(batch)


def drive(home: str, folder: str) -> None:
    """Run all open work on a separate Ray cluster, in runs of 16 works and shards of 4."""
    lake, stage = Lake(home), SlowStage(corrupt=frozenset(ITEMS[5:7]))
    stage.folder = folder
    with ray_session(cpus=2):
        Path(folder, "driving").touch()
        while True:
            with prepare(lake, stage, stage.plan(ITEMS), shard_size=4, limit=16) as run:
                if not run.shards:
                    return
                with Pool(stage, lake, 1) as pool:
                    for k in range(len(run.shards)):
                        pool.run_shard(run.shard(k), lambda *_: None)
                finish(lake, run)


def stored(home: str) -> dict[str, Any]:
    lake = Lake(home)
    captions = [{k: v for k, v in row.items() if k != "run_id"} for row in lake.read("captions")]
    failed = lake.read("rejects", ["work_key", "error_class", "attempts", "message"])
    account = next(found for found in funnel(lake, Policy()) if found.stage == "captions")
    return {"captions": captions, "rejects": failed, "account": account, "unfinished": unfinished(lake)}


def until_driving(home: str, folder: Path) -> Any:
    folder.mkdir()
    driver = SPAWN.Process(target=drive, args=(home, str(folder)))
    driver.start()
    deadline = time.monotonic() + 60
    while not (folder / "driving").exists():
        assert driver.is_alive() and time.monotonic() < deadline
        time.sleep(0.02)
    return driver


def workers(folder: Path) -> list[int]:
    return [int(path.name) for path in folder.iterdir() if path.name.isdecimal()]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_random_kills_of_drivers_and_workers_leave_no_trace(tmp_path: Path) -> None:
    undisturbed, home, chance = str(tmp_path / "undisturbed"), str(tmp_path / "lake"), random.Random(0)
    Lake(undisturbed), Lake(home)
    driver = until_driving(undisturbed, tmp_path / "calm")
    driver.join(120)
    expected = stored(undisturbed)
    assert len(expected["captions"]) == 58
    kills = {"driver": 0, "worker": 0}
    for number in range(ROUNDS):
        folder = tmp_path / f"round {number}"
        driver = until_driving(home, folder)
        while driver.is_alive() and not workers(folder):
            time.sleep(0.01)
        time.sleep(chance.uniform(0.0, 0.3))
        for pid in workers(folder):
            os.kill(pid, signal.SIGKILL)
            kills["worker"] += 1
        time.sleep(chance.uniform(0.0, 6.0))
        if driver.is_alive():
            driver.kill()
            kills["driver"] += 1
        driver.join()
    driver = until_driving(home, tmp_path / "last")
    driver.join(120)
    assert driver.exitcode == 0
    assert stored(home) == expected
    assert min(kills.values()) >= 2, kills
