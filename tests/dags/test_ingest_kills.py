"""A whole ingestion whose drivers and workers are killed at random: run again, the tables are those of a calm one."""

import random
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from opendimo.pipelines.progress.status import funnel
from opendimo.pipelines.quality.policy import Policy
from opendimo.storage_schemas.ids import sha256_bytes
from opendimo.storage_schemas.lake.lake import Lake
from opendimo.storage_schemas.lake.runs import unfinished
from opendimo.storage_schemas.tables import TABLES
from tests.dags.ingestion import Driver, make_inputs
from tests.dags.processes import Process, wait_for_end
from tests.pipelines.media_server import MediaServer, media_server

LIVES = 4
"""Drivers that are killed before the last one, which only loses workers."""
WORKERS = 2
"""Workers that one driver loses at most: what kills more of them in a row may count as their killer."""
TOLD_BY_TIME = {
    "sources": {"fetched_at"},
    "rejects": {"next_attempt_at"},
    "fetches": {"fetch_id", "started", "seconds", "bytes", "resumed_from", "http_status"},
}
"""Columns that say when, or in how many pieces, something was done; as `run_id` does, who did it."""
LOST = 1 << 16
"""Bytes that were under way when a process was killed."""

Stored = dict[tuple[str, str, str], str]


def stored(lake: Lake) -> Stored:
    """Every value that is no matter of time, by table, key and column; of `fetches` what became of each URL."""
    found: Stored = {}
    for name, table in TABLES.items():
        if name == "ledger":
            continue
        key = "url_sha256" if name == "fetches" else table.key
        for row in lake.scan(name).to_pylist():
            for column in row.keys() - TOLD_BY_TIME.get(name, set()) - {"run_id"}:
                assert found.setdefault((name, row[key], column), value := said(lake, row[column])) == value
        for column in table.blobs:
            keys = lake.column(name, table.key).to_pylist()
            for clip, content in zip(keys, lake.blobs(name, column, keys), strict=True):
                found[name, clip, column] = sha256_bytes(content)
    return found


def said(lake: Lake, value: object) -> str:
    return repr(value).replace(lake.uri, "LAKE")


def differences(one: Stored, other: Stored) -> list[str]:
    both = sorted(one.keys() | other.keys())
    return [f"{k}: {one.get(k)} != {other.get(k)}"[:500] for k in both if one.get(k) != other.get(k)]


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MediaServer]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "machine"))
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    with media_server() as running:
        yield running


class Life:
    """A driver that loses workers, and its life, at moments that chance chooses."""

    def __init__(self, driver: Driver, chance: random.Random, kills: Counter[str]) -> None:
        self.driver, self.chance, self.kills = driver, chance, kills

    def lose_workers(self, longest: float) -> None:
        """Workers, or what they started, each within so many seconds, or as soon as there is one."""
        for _ in range(WORKERS):
            self.wait(self.chance.uniform(0, longest))
            while self.driver.runs and not (victims := self.driver.workers()):
                time.sleep(0.05)
            if self.driver.runs:
                self.kills["worker"] += self.chance.choice(victims).kill()

    def end(self, whole: bool) -> None:
        """The driver alone, or with all that it started."""
        below: list[Process] = self.driver.family() if whole else []
        if self.driver.runs:
            self.driver.process.kill()
            self.kills["all" if whole else "driver"] += 1
        for process in below:
            process.kill()
        self.driver.process.wait()

    def wait(self, seconds: float) -> None:
        """So long, unless the driver ends before."""
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
    calm = Driver.start(tmp_path / "calm", inputs, tmp_path / "sign")
    begun = time.monotonic()
    assert calm.process.wait(600) == 0, (tmp_path / "sign.log").read_text()
    usual, took = time.monotonic() - begun, time.monotonic() - started
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
            life.end(whole=number % 2 == 1)
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
