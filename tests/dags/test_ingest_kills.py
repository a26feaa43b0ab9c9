"""Kill drivers and workers of an ingestion at random, resume it, and compare the tables with an undisturbed run."""

import random
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from opendimo.pipelines.progress.status import funnel
from opendimo.pipelines.quality.policy import Policy
from opendimo.storage_schemas.lake.lake import Lake
from opendimo.storage_schemas.lake.runs import unfinished
from opendimo.storage_schemas.tables import TABLES
from tests.dags.ingestion import Driver, make_inputs
from tests.dags.processes import Process, wait_for_end
from tests.dags.stored import differences, stored
from tests.pipelines.media_server import MediaServer, media_server

LIVES = 4
"""Number of drivers that are killed. One more driver follows, which loses only workers."""
WORKERS = 2
"""Maximum number of workers killed per driver. With three deaths, the work item may be rejected as their cause."""
LOST = 1 << 16
"""Maximum number of bytes in flight when a process is killed."""


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MediaServer]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "machine"))
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    with media_server() as running:
        yield running


class Life:
    """Kill the workers of a driver, and the driver itself, at random times."""

    def __init__(self, driver: Driver, chance: random.Random, kills: Counter[str]) -> None:
        self.driver, self.chance, self.kills = driver, chance, kills

    def lose_workers(self, longest: float) -> None:
        """Kill `WORKERS` workers or child processes of workers, each after up to `longest` seconds, once there are
        any."""
        for _ in range(WORKERS):
            self.wait(self.chance.uniform(0, longest))
            while self.driver.runs and not (victims := self.driver.workers()):
                time.sleep(0.05)
            if self.driver.runs:
                self.kills["worker"] += self.chance.choice(victims).kill()

    def end(self, with_children: bool) -> None:
        """Kill the driver, and with `with_children` also all its descendants."""
        children: list[Process] = self.driver.family() if with_children else []
        if self.driver.runs:
            self.driver.process.kill()
            self.kills["all" if with_children else "driver"] += 1
        for process in children:
            process.kill()
        self.driver.process.wait()

    def wait(self, seconds: float) -> None:
        """Wait for `seconds`, or until the driver ends."""
        deadline = time.monotonic() + seconds
        while self.driver.runs and time.monotonic() < deadline:
            self.driver.family()
            time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_random_kills_during_an_ingestion_leave_no_trace(data: Path, tmp_path: Path, server: MediaServer) -> None:
    inputs, chance, kills = tmp_path / "inputs", random.Random(0), Counter[str]()
    make_inputs(data, inputs, server)
    started = time.monotonic()
    undisturbed = Driver.start(tmp_path / "calm", inputs, tmp_path / "sign")
    ingest_started = time.monotonic()
    assert undisturbed.process.wait(600) == 0, (tmp_path / "sign.log").read_text()
    usual, took = time.monotonic() - ingest_started, time.monotonic() - started
    expected = stored(Lake(tmp_path / "calm"))
    assert len(server.sent) == 5
    server.sent.clear()

    home, seen = tmp_path / "lake", set[Process]()
    for number in range(LIVES + 1):
        sign = tmp_path / f"life {number}"
        life = Life(Driver.start(home, inputs, sign), chance, kills)
        life.lose_workers(usual / 6)
        if number < LIVES:
            life.wait(chance.uniform(0, usual / 6))
            life.end(with_children=number % 2 == 1)
        else:
            assert life.driver.process.wait(600) == 0, Path(f"{sign}.log").read_text()
        seen |= life.driver.seen
    lake = Lake(home)
    print(f"killed {dict(kills)}; an undisturbed run takes {took:.0f} s; {time.monotonic() - started:.0f} s so far")
    assert differences(stored(lake), expected) == []
    assert funnel(lake, Policy()) == funnel(Lake(tmp_path / "calm"), Policy())
    assert unfinished(lake) == []
    assert min(kills["driver"], kills["all"]) >= 1 and kills["worker"] >= 3, kills

    for name, body in server.files.items():
        sent = [count for path, count in server.sent if path == f"/file/{name}"]
        assert sum(sent) <= len(body) + LOST * (len(sent) - 1), name

    versions = {name: lake.dataset(name).version for name in TABLES}
    requests = len(server.requests)
    again = Driver.start(home, inputs, tmp_path / "again")
    assert again.process.wait(600) == 0
    assert ({name: lake.dataset(name).version for name in TABLES}, len(server.requests)) == (versions, requests)
    assert wait_for_end(seen, 30) == set()
