"""Two hosts, the lake on an S3-like server: a worker on the other host, and a network that fails for a minute."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from opendimo.dags.services import free_port
from opendimo.pipelines.engine.runner import set_ray_token
from opendimo.storage_schemas.lake.lake import Lake
from opendimo.storage_schemas.lake.runs import staged_shards, unfinished
from tests.dags.command import dimo
from tests.dags.faults import DIMO, make_job
from tests.dags.stored import differences, stored
from tests.dags.two_hosts import HERE, RAY_PORT, RayNode, cable, can_have_namespaces, cut, nodes

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(not can_have_namespaces(), reason="cannot make network namespaces: needs root and iproute2"),
]
CUT_SECONDS = 60.0


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    """Serve an S3-like store to both hosts, which are connected; yield the address of a bucket."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in ["PREFECT_API_URL", *(name for name in os.environ if name.startswith("AWS_"))]:
        monkeypatch.delenv(name, raising=False)
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, f"127.0.0.1,localhost,{HERE}")
    port = free_port()
    with cable():
        url = f"http://{HERE}:{port}"
        access = {"ACCESS_KEY_ID": "test", "SECRET_ACCESS_KEY": "test", "REGION": "us-east-1"}
        for name, value in (access | {"ENDPOINT_URL": url, "ALLOW_HTTP": "true"}).items():
            monkeypatch.setenv(f"AWS_{name}", value)
        with (tmp_path / "store.log").open("wb") as log:
            command = [sys.executable, "-m", "moto.server", "-H", HERE, "-p", str(port)]
            server = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            for _ in range(300):
                try:
                    httpx.put(f"{url}/bucket").raise_for_status()
                    break
                except httpx.TransportError:
                    time.sleep(0.2)
            yield "s3://bucket"
        finally:
            server.terminate()
            server.wait()


@pytest.fixture
def cluster(bucket: str, tmp_path: Path) -> Iterator[tuple[RayNode, RayNode]]:
    """Run Ray on both hosts; start its processes again if they exit."""
    set_ray_token()
    both, ended = nodes(tmp_path), threading.Event()

    def supervise() -> None:
        while not ended.wait(1.0):
            for node in both:
                node.keep_running()

    thread = threading.Thread(target=supervise, daemon=True)
    thread.start()
    yield both
    ended.set()
    thread.join()
    for node in reversed(both):
        node.stop()


def is_midway(lake: Lake) -> bool:
    """Return whether the stage `clips` has begun and has not committed."""
    return any(run.get("stage") == "clips" for run in unfinished(lake))


def test_a_network_that_fails_for_a_minute_delays_an_ingestion_and_loses_nothing(
    bucket: str, cluster: tuple[RayNode, RayNode], data: Path, tmp_path: Path
) -> None:
    job = make_job("ingest", data, tmp_path)
    home, log = f"{bucket}/lake", tmp_path / "ingest.log"
    arguments = ["ingest", "internet", str(job.videos), "--licence", "test", "--lake"]
    wait_for_cpus(tmp_path)
    with log.open("wb") as output:
        command = [*DIMO, *arguments, home, "--ray-address", f"{HERE}:{RAY_PORT}"]
        process = subprocess.Popen(command, stdout=output, stderr=output, env=os.environ)
    while not is_midway(Lake(home)):
        assert process.poll() is None, log.read_text()[-3000:]
        time.sleep(0.5)
    before = [staged_shards(Lake(home), run["run_id"]) for run in unfinished(Lake(home))]
    began = time.monotonic()
    cut(CUT_SECONDS)
    code = process.wait(900)
    print(f"exit code {code}, {time.monotonic() - began:.0f} s after the cut; staged before: {before};", end=" ")
    print(f"Ray on the other host was started {cluster[1].starts} times")
    print(log.read_text()[-1500:])
    assert code == 0
    assert time.monotonic() - began > CUT_SECONDS, "the command cannot end while its workers are away"
    assert dimo(*arguments, tmp_path / "calm").returncode == 0
    assert differences(stored(Lake(home)), stored(Lake(tmp_path / "calm"))) == []
    assert unfinished(Lake(home)) == []


def wait_for_cpus(folder: Path) -> None:
    """Wait until the other host has joined the cluster."""
    script = (
        f"import ray; ray.init('{HERE}:{RAY_PORT}', logging_level=40); print(ray.cluster_resources().get('CPU', 0))"
    )
    for _ in range(60):
        asked = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
        if asked.stdout.strip() == "2.0":
            return
        time.sleep(2)
    raise AssertionError(asked.stderr[-1000:] + (folder / "head.log").read_text()[-1000:])
