"""`dimo serve`: deployments, schedules and triggers on a real Prefect server, with a real Ray cluster and worker."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from opendimo.dags.services import free_port
from opendimo.storage_schemas.lake.lake import Lake
from opendimo.storage_schemas.releases.release import find_release
from tests.dags.command import dimo
from tests.dags.processes import Process, descendants, wait_for_end
from tests.rows import pair
from tests.storage_schemas.release_rows import add, small_lake

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
CONFIG = """
webhook_env = "TEST_WEBHOOK"
report = "https://reports.test/lake"
[training]
runs = "{folder}/runs"
recipe.base = "{folder}/no-such-base"
[dataset]
cron = "0 2 * * *"
sources = [{{kind = "internet", path = "{folder}/inbox"}}]
"""


@dataclass
class Served:
    """A running `dimo serve`. `posts`: bodies that its webhook received."""

    process: "subprocess.Popen[str]"
    lake: Lake
    api: str
    posts: list[dict[str, Any]]
    children: set[Process] = field(default_factory=set)

    def post(self, path: str, **body: Any) -> Any:
        """Post to the API; return the answer."""
        return httpx.post(f"{self.api}/{path}", json=body, timeout=120).raise_for_status().json()

    def read(self, path: str) -> Any:
        """Get from the API; return the answer."""
        return httpx.get(f"{self.api}/{path}", timeout=120).raise_for_status().json()

    def deployments(self) -> dict[str, dict[str, Any]]:
        """Return the deployments by the name of their flow."""
        flows = {flow["id"]: flow["name"] for flow in self.post("flows/filter")}
        return {flows[made["flow_id"]]: made for made in self.post("deployments/filter")}

    def run(self, name: str, state: str) -> dict[str, Any]:
        """Wait for a flow run with this name and state; return it."""

        def found() -> dict[str, Any] | None:
            runs = self.post("flow_runs/filter", flow_runs={"name": {"like_": name}})
            return next((run for run in runs if run["state"]["name"] == state), None)

        return eventually(found, f"a run {name} that is {state}")


def eventually(find: Callable[[], Any], what: str, seconds: float = 120) -> Any:
    """Return the first result of `find` that is true; fail if there is none within `seconds`."""
    deadline = time.monotonic() + seconds
    while not (found := find()):
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.5)
    return found


@pytest.fixture(scope="module")
def webhook() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Serve an address that collects posted JSON."""
    posts: list[dict[str, Any]] = []

    class Collect(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            posts.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Collect)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/failed", posts
    server.shutdown()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, webhook: tuple[str, list[dict[str, Any]]]) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("serve")
    lake = small_lake(folder / "lake")
    (folder / "inbox").mkdir()
    (folder / "serve.toml").write_text(CONFIG.format(folder=folder))
    port = free_port()
    command = [
        sys.executable,
        "-c",
        "from opendimo.dags.cli import main; main()",
        "serve",
        "--lake",
        lake.uri,
        "--port",
        str(port),
    ]
    log = folder / "serve.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [*command, "--config", str(folder / "serve.toml")],
            env=os.environ | {"TEST_WEBHOOK": webhook[0]},
            cwd=folder,
            stdout=output,
            stderr=output,
            text=True,
        )
    eventually(lambda: process.poll() is not None or "trigger " in log.read_text(), "deployments", 240)
    assert process.poll() is None, log.read_text()
    yield Served(process, lake, f"http://127.0.0.1:{port}/api", webhook[1])
    process.terminate()
    process.wait(120)


def test_every_flow_has_a_deployment_with_a_form(served: Served) -> None:
    deployments = served.deployments()
    data = {"ingest", "cut", "measure", "label", "caption", "encode", "dataset"}
    assert set(deployments) == data | {"publish", "approve", "review", "train", "evaluate", "clean"}
    form = deployments["ingest"]["parameter_openapi_schema"]["properties"]
    assert form["kind"]["enum"] == ["internet", "unreal", "multiview"]
    assert form["path"]["description"].startswith("Folder; for internet also a list of URLs")
    assert deployments["ingest"]["parameters"] == {"lake": served.lake.uri}


def test_the_schedule_shows_its_next_runs(served: Served) -> None:
    [schedule] = served.deployments()["dataset"]["schedules"]
    assert (schedule["schedule"]["cron"], schedule["active"]) == ("0 2 * * *", True)
    scheduled = {"state": {"type": {"any_": ["SCHEDULED"]}}}
    found = eventually(lambda: served.post("flow_runs/filter", flow_runs=scheduled), "scheduled runs", 90)
    assert all(run["expected_start_time"].endswith(("T02:00:00Z", "T04:00:00Z")) for run in found)  # and `clean`


def test_a_run_is_named_and_tagged_by_what_it_does_where(served: Served) -> None:
    deployment = served.deployments()["clean"]["id"]
    served.post(f"deployments/{deployment}/create_flow_run", parameters={})
    tags = served.run("clean serve0/lake", "Completed")["tags"]
    assert {"opendimo", "flow:clean", "lake:serve0/lake"} <= set(tags)


def test_a_release_waits_for_a_person_and_stops_or_goes_on_by_the_answer(served: Served, tmp_path: Path) -> None:
    policy = tmp_path / "policy.toml"
    policy.write_text("approval = true")
    for number, (decision, state) in enumerate((("reject", "withdrawn"), ("approve", "usable")), 1):
        release = f"gated@{number}"
        assert dimo("release", "create", "gated", "--policy", policy, "--lake", served.lake.uri).returncode == 0
        review = served.run(f"review {release}", "Suspended")
        key = review["state"]["state_details"]["run_input_keyset"]["description"]
        form = served.read(f"flow_runs/{review['id']}/input/{key}")
        card, report, text = form.partition("[Report](https://reports.test/lake) `https://reports.test/lake`")
        artifact = re.search(r"\[Card\]\(\S+/artifacts/artifact/([0-9a-f-]+)\)", card)
        assert artifact and report and "kind of pair" in text
        assert report in served.read(f"artifacts/{artifact[1]}")["data"]
        wrong = served.post(f"flow_runs/{review['id']}/resume", run_input={"decision": "perhaps", "by": "ann"})
        assert wrong["status"] == "REJECT"
        assert served.post(f"flow_runs/{review['id']}/resume", run_input={"decision": decision, "by": "ann"})
        served.run(f"review {release}", "Completed")
        row = find_release(served.lake, release)
        assert (row["state"], row["decision"]["by"]) == (state, "ann")
        name = f"more-{number}"
        add(served.lake, f"add {name}", name)
        served.lake.append(f"pair {name}", {"pairs": [pair(name, "train")]})
    failed = served.run("train gated@2", "Failed")  # there is no such base; the rejected release started nothing
    assert failed["parameters"]["out"].endswith("/runs/gated@2")
    assert "no-such-base" in failed["state"]["message"]
    assert not served.post("flow_runs/filter", flow_runs={"name": {"like_": "train gated@1"}})
    [post] = eventually(
        lambda: [post for post in served.posts if post["text"].startswith("train gated@2")], "a webhook"
    )
    assert post["flow_run"] == failed["id"] and "no-such-base" in post["text"]


def test_a_decision_on_the_command_line_ends_the_review_that_waits_for_it(served: Served, tmp_path: Path) -> None:
    policy = tmp_path / "policy.toml"
    policy.write_text("approval = true")
    where = ("--lake", served.lake.uri)
    assert dimo("release", "create", "waiting", "--policy", policy, *where).returncode == 0
    served.run("review waiting@1", "Suspended")
    assert dimo("release", "reject", "waiting@1", "--by", "ann", "--reason", "too few", *where).returncode == 0
    message = served.run("review waiting@1", "Completed")["state"]["message"]
    assert message == "waiting@1 is withdrawn: decided by ann, not in this form"
    add(served.lake, "add one", "one")
    served.lake.append("pair one", {"pairs": [pair("one", "train")]})
    assert dimo("release", "create", "waiting", "--policy", policy, *where).returncode == 0
    served.run("review waiting@2", "Suspended")
    assert dimo("release", "approve", "waiting@2", "--by", "bob", *where).returncode == 0
    message = served.run("review waiting@2", "Completed")["state"]["message"]
    assert message == "waiting@2 is usable: decided by bob, not in this form"


def test_a_killed_server_is_started_again_on_its_port(served: Served) -> None:
    server = next(p for p in descendants(served.process.pid) if "prefect server start" in p.command)
    server.kill()
    assert wait_for_end({server}, 10) == set()
    eventually(lambda: answers_with_deployments(served), "the restarted server")


def answers_with_deployments(served: Served) -> bool:
    try:
        return len(served.deployments()) == 13
    except httpx.HTTPError:
        return False


def test_all_listen_on_this_machine_only(served: Served) -> None:
    listening = {
        connection.laddr.ip.removeprefix("::ffff:")
        for process in descendants(served.process.pid)
        for connection in psutil.Process(process.pid).net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    }
    assert listening == {"127.0.0.1"}


def test_a_second_serve_is_refused(served: Served) -> None:
    answer = dimo("serve", "--lake", served.lake.uri, "--port", str(free_port()))
    assert answer.returncode == 1 and "already runs" in answer.stderr


def test_sigterm_stops_everything(served: Served) -> None:
    family = set(descendants(served.process.pid))
    assert len(family) > 5
    served.process.send_signal(signal.SIGTERM)
    assert served.process.wait(60) == 128 + signal.SIGTERM
    assert wait_for_end(family, 20) == set()
    assert not (served.lake.local / "session" / "serve.json").exists()
