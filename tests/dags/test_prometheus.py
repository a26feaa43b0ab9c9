"""A real Prometheus scrapes the metrics of a lake, of Ray and of Prefect; every query of the dashboard returns data."""

import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from opendimo.dags.services import free_port, is_free, prefect_server
from opendimo.dags.serving.metrics import serve_metrics
from opendimo.dags.serving.serve import ray_head
from opendimo.dags.session import environment
from opendimo.pipelines.engine.runner import set_ray_token, use_loopback
from opendimo.pipelines.progress.status import funnel
from opendimo.pipelines.quality.policy import Policy
from opendimo.storage_schemas.lake import runs
from opendimo.storage_schemas.lake.lake import Lake
from opendimo.storage_schemas.tables import TABLES
from tests.pipelines.report_lake import clip_row, reject_row, run, source_row

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(shutil.which("prometheus") is None, reason="Prometheus is not installed"),
]
DOCKER = Path(__file__).parents[2] / "docker"


def busy_lake(home: Path) -> Lake:
    """Return a lake with clips, rejects that wait for a retry, and a run in progress."""
    lake = Lake(home)
    names = ["left", "right"]
    again = reject_row(0) | {"error_class": "transient", "next_attempt_at": time.time_ns() + 10**15}
    run(lake, "sources", {"sources": [source_row(name) for name in names], "rejects": [again]}, 3)
    clips = [clip_row(name) for name in names]
    videos = [{"clip_id": c["clip_id"], "video": b"v", "sha256": "0", "work_key": c["work_key"]} for c in clips]
    run(lake, "clips", {"clips": clips, "clip_videos": videos}, 2)
    runs.begin(lake, "in progress", {"stage": "poses", "config": "", "shards": 2, "keys": [["a"], ["b"]]})
    return lake


class Prometheus:
    """A running Prometheus."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}/api/v1"

    def query(self, text: str) -> list[dict[str, Any]]:
        """Return the series that a query selects now."""
        answer = httpx.get(f"{self.url}/query", params={"query": text}, timeout=30).raise_for_status().json()
        return list(answer["data"]["result"])

    def values(self, text: str, label: str) -> dict[str, float]:
        """Return the values of a query by a label of its series."""
        return {series["metric"][label]: float(series["value"][1]) for series in self.query(text)}


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    return busy_lake(tmp_path_factory.mktemp("lake"))


@pytest.fixture(scope="module")
def prometheus(lake: Lake, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """Run all services with `docker/prometheus/one-machine.yml`, on free ports and with a scrape each second."""
    folder = tmp_path_factory.mktemp("prometheus")
    (folder / "runs" / "dance@1").mkdir(parents=True)
    step = {"step": 7, "loss": 0.5, "seconds": 1.5, "data_seconds": 0.25}
    (folder / "runs" / "dance@1" / "metrics.jsonl").write_text(json.dumps(step) + "\n")
    ports = {"opendimo": free_port(), "ray": free_port(), "prefect": free_port()}
    config = yaml.safe_load((DOCKER / "prometheus" / "one-machine.yml").read_text())
    for job in config["scrape_configs"]:
        job["static_configs"] = [{"targets": [f"127.0.0.1:{ports[job['job_name']]}"]}]
    config["global"]["scrape_interval"] = "1s"
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    with ExitStack() as stack:
        stack.enter_context(environment(folder))
        set_ray_token()
        use_loopback()
        services = prefect_server(folder, ports["prefect"], True), ray_head(folder, free_port(), ports["ray"] - 1)
        for service in services:
            service.start()
            stack.callback(service.stop)
        serve_metrics("127.0.0.1", ports["opendimo"], lake.uri, str(folder / "runs"))
        port = free_port()
        command = ["prometheus", "--config.file=prometheus.yml", f"--web.listen-address=127.0.0.1:{port}"]
        process = subprocess.Popen([*command, f"--storage.tsdb.path={folder}/data"], cwd=folder)
        stack.callback(process.wait, 30)
        stack.callback(process.terminate)
        for service in services:
            service.wait_until_ready()
        deadline = time.monotonic() + 120
        found = Prometheus(port)
        while is_free(port) or set(found.values("up", "job").values()) != {1.0}:
            assert time.monotonic() < deadline, "not all targets are scraped"
            time.sleep(1)
        time.sleep(15)  # rates need two samples; Ray reports its resources every ten seconds
        yield found


def queries() -> list[str]:
    panels = json.loads((DOCKER / "grafana" / "opendimo.json").read_text())["panels"]
    return [target["expr"] for panel in panels for target in panel["targets"]]


@pytest.mark.parametrize("text", queries())
def test_every_query_of_the_dashboard_returns_data(prometheus: Prometheus, text: str) -> None:
    assert prometheus.query(text)


def test_the_scraped_counts_are_those_of_the_lake(prometheus: Prometheus, lake: Lake) -> None:
    accounts = {account.stage: account for account in funnel(lake, Policy())}
    done = prometheus.values('opendimo_items{outcome="done"}', "stage")
    assert done == {stage: float(account.done) for stage, account in accounts.items()}
    rejected = prometheus.values('opendimo_items{outcome="rejected"}', "stage")
    assert rejected == {"sources": float(sum(accounts["sources"].rejected.values()))} == {"sources": 1.0}
    rows = {table: float(lake.dataset(table).count_rows()) for table in TABLES}
    assert prometheus.values("opendimo_table_rows", "table") == rows
