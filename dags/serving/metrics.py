"""Metrics for Prometheus, read from the tables of a lake and the logs of trainings when they are scraped."""

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import GaugeMetricFamily, Metric

from opendimo.pipelines.engine.rejects import rejects
from opendimo.pipelines.progress.status import funnel, pending
from opendimo.pipelines.quality.policy import Policy
from opendimo.storage_schemas.lake.lake import Lake
from opendimo.storage_schemas.lake.runs import staged_shards, unfinished
from opendimo.storage_schemas.releases.release import list_releases
from opendimo.storage_schemas.tables import TABLES

KEEP_SECONDS = 10.0
"""Scrapes within this time get the same values, so that many scrapers do not load the lake."""
TAIL_BYTES = 1 << 16
"""Last part of a training log that is read for its newest step."""
TRAINING = {"step": "step", "loss": "loss", "seconds": "step_seconds", "data_seconds": "data_wait_seconds"}
"""Values of a step in `metrics.jsonl`, and their names here."""


class LakeMetrics:
    """A collector of `prometheus_client`. `runs`: folder with an output folder per training, or None."""

    def __init__(self, lake: str, runs: str | None = None) -> None:
        self._lake, self._runs = lake, runs
        self._lock = threading.Lock()
        self._kept: list[Metric] = []
        self._read_at = -KEEP_SECONDS

    def describe(self) -> list[Metric]:
        """Return nothing: names are known from the first scrape on, so that registering reads no lake."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield all metrics, at most `KEEP_SECONDS` old."""
        with self._lock:
            if time.monotonic() - self._read_at >= KEEP_SECONDS:
                self._kept = self._read()
                self._read_at = time.monotonic()
            yield from self._kept

    def _read(self) -> list[Metric]:
        up = GaugeMetricFamily("opendimo_lake_readable", "1 if the tables of the lake could be read, else 0")
        try:
            found = [*_work(Lake(self._lake)), *_storage(Lake(self._lake))]
            up.add_metric([], 1)
        except (OSError, ValueError, AssertionError):
            found = []
            up.add_metric([], 0)
        return [up, *found, *(_trainings(Path(self._runs)) if self._runs else ())]


def serve_metrics(host: str, port: int, lake: str, runs: str | None = None) -> None:
    """Serve the metrics at http://HOST:PORT/metrics in a thread, until the process ends."""
    registry = CollectorRegistry()
    registry.register(LakeMetrics(lake, runs))
    start_http_server(port, host, registry)


def _work(lake: Lake) -> Iterator[Metric]:
    """Yield the account of every stage, which is that of `dimo status`, and the runs in progress."""
    inputs = GaugeMetricFamily("opendimo_stage_inputs", "Inputs of a stage in the lake", labels=["stage"])
    items = GaugeMetricFamily("opendimo_items", "Inputs by result", labels=["stage", "outcome", "reason"])
    retries = GaugeMetricFamily("opendimo_retries", "Rejects that will be retried", labels=["stage", "state"])
    for account in funnel(lake, Policy()):
        inputs.add_metric([account.stage], account.inputs)
        items.add_metric([account.stage, "done", ""], account.done)
        for outcome, counts in (("filtered", account.filtered), ("rejected", account.rejected)):
            for reason, count in counts.items():
                items.add_metric([account.stage, outcome, reason], count)
    for stage, retried in pending(rejects(lake)).items():
        retries.add_metric([stage, "waiting"], retried.waiting)
        retries.add_metric([stage, "due"], retried.due)
    age = GaugeMetricFamily("opendimo_run_age_seconds", "Time since a run in progress began", labels=["stage"])
    shards = GaugeMetricFamily("opendimo_run_shards", "Shards of a run in progress", labels=["stage", "state"])
    for plan in unfinished(lake):
        stage = plan.get("stage", "notes")
        staged = staged_shards(lake, plan["run_id"])
        age.add_metric([stage], time.time() - plan["started_ns"] / 1e9)
        shards.add_metric([stage, "staged"], staged)
        shards.add_metric([stage, "open"], plan["shards"] - staged)
    yield from (inputs, items, retries, age, shards)


def _storage(lake: Lake) -> Iterator[Metric]:
    rows = GaugeMetricFamily("opendimo_table_rows", "Rows of a table", labels=["table"])
    for table in TABLES:
        rows.add_metric([table], lake.dataset(table).count_rows())
    releases = GaugeMetricFamily("opendimo_releases", "Releases by state", labels=["state"])
    states = [row["state"] for row in list_releases(lake)]
    for state in ("usable", "pending", "withdrawn"):
        releases.add_metric([state], states.count(state))
    yield from (rows, releases)


def _trainings(runs: Path) -> Iterator[Metric]:
    """Yield the newest step of every training."""
    families = {
        field: GaugeMetricFamily(f"opendimo_training_{name}", f"`{field}` of the newest step", labels=["run"])
        for field, name in TRAINING.items()
    }
    for log in sorted(runs.glob("*/metrics.jsonl")):
        record = _newest_step(log)
        for field, family in families.items():
            if isinstance(value := record.get(field), (int, float)):
                family.add_metric([log.parent.name], value)
    yield from families.values()


def _newest_step(log: Path) -> dict[str, Any]:
    with log.open("rb") as stream:
        stream.seek(max(0, log.stat().st_size - TAIL_BYTES))
        lines = stream.read().split(b"\n")[:-1]  # the last one is incomplete or empty
    for line in reversed(lines):
        try:
            record = json.loads(line)
        except ValueError:  # the first one may lack its beginning
            continue
        if "event" not in record:
            return dict(record)
    return {}
