"""Load of a Prefect server while a flow runs a cheap stage over many clips: task runs, latency, memory.

A thread asks for the newest flow runs and task runs, as the dashboard does, while the flow runs. The latencies of the
first and of the last third of the flow are compared, so that a server that becomes slower shows.
"""

import argparse
import statistics
import tempfile
import threading
import time
from pathlib import Path

import httpx
import psutil
from rich.console import Console
from rich.table import Table

from opendimo.dags.session import session
from opendimo.storage_schemas.lake.lake import Lake
from tests.dags.processes import descendants
from tests.pipelines.cheap_stage import CheapStage

EVERY_SECONDS = 0.2


class Probe(threading.Thread):
    """Measures latency (seconds) and resident memory (MB) of a server until `stop`."""

    def __init__(self, api: str) -> None:
        super().__init__(daemon=True)
        self._api, self._ended = api, threading.Event()
        [server] = [p for p in descendants(psutil.Process().pid) if "prefect server start" in p.command]
        self._server = psutil.Process(server.pid)
        self.latencies: list[float] = []
        self.megabytes: list[float] = []

    def run(self) -> None:
        with httpx.Client(base_url=self._api, timeout=60) as client:
            while not self._ended.wait(EVERY_SECONDS):
                began = time.perf_counter()
                for path in ("flow_runs/filter", "task_runs/filter"):
                    client.post(f"{self._api}/{path}", json={"limit": 50}).raise_for_status()
                self.latencies.append((time.perf_counter() - began) / 2)
                processes = [self._server, *self._server.children(recursive=True)]
                self.megabytes.append(sum(process.memory_info().rss for process in processes) / 2**20)

    def stop(self) -> None:
        self._ended.set()
        self.join()


def p95(values: list[float]) -> float:
    return statistics.quantiles(values, n=20)[-1]


def main() -> None:
    """Run the flow and print the figures; fail if clips or task runs are lost, or if there are too many task runs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=10_000)
    parser.add_argument("--shard", type=int, default=8, help="clips per shard; 8 as of the stage `latents`")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, session(Path(folder) / "session") as api:
        measure(Lake(Path(folder) / "lake"), api, given.clips, given.shard)


def measure(lake: Lake, api: str, clips: int, shard: int) -> None:
    from prefect import flow

    from opendimo.dags.requests import Step
    from opendimo.dags.stages import map_stage
    from opendimo.pipelines.engine.stage import Needs

    stage = CheapStage(needs=Needs(shard=shard))
    planned = stage.plan(f"clip {number}" for number in range(clips))

    @flow
    def captions() -> int:
        return map_stage(lake, Step(stage, lambda: planned)).done

    probe = Probe(api)
    probe.start()
    began = time.perf_counter()
    done = captions()
    took = time.perf_counter() - began
    probe.stop()
    assert done == clips == lake.dataset("captions").count_rows()
    tasks = httpx.post(f"{api}/task_runs/count", json={}, timeout=60).raise_for_status().json()
    assert 2 <= tasks < 1000, tasks
    third = max(2, len(probe.latencies) // 3)
    first, last = probe.latencies[:third], probe.latencies[-third:]
    table = Table(
        "clips",
        "shards of",
        "s",
        "task runs",
        "requests",
        "p95 first third, ms",
        "p95 last third, ms",
        "MB first",
        "MB last",
        "MB most",
    )
    numbers = (p95(first) * 1000, p95(last) * 1000, probe.megabytes[0], probe.megabytes[-1], max(probe.megabytes))
    table.add_row(
        *map(str, (clips, shard)), f"{took:.0f}", str(tasks), str(len(probe.latencies)), *(f"{n:.0f}" for n in numbers)
    )
    Console(width=150).print(table)


if __name__ == "__main__":
    main()
