"""Test stages as Prefect tasks, and release events, on a real Prefect server and a real Ray cluster."""

import base64
import io
import logging
import multiprocessing
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from opendimo.dags.session import lake_session, session
from opendimo.pipelines.engine.planned import Planned
from opendimo.pipelines.engine.stage import DataError, Needs, Outcome, Work, run_each
from opendimo.storage_schemas.lake.lake import Lake
from opendimo.storage_schemas.media.video import encode
from opendimo.storage_schemas.releases.policy import ReleasePolicy
from tests.storage_schemas.release_rows import small_lake

log = logging.getLogger("opendimo.pipelines.test")


@dataclass(frozen=True)
class Config:
    """Empty stage config."""


class CaptureStage:
    """A stage that writes `captures`, and fails with a data error for the item named `bad`."""

    name, version, weights = "captures", "1", ""
    needs, config = Needs(), Config()

    def setup(self) -> None:
        pass

    def run(self, batch: list[Work]) -> Outcome:
        return run_each(batch, self._make)

    def _make(self, work: Work) -> dict:
        log.info("looking at %s", work.name)
        if work.name == "bad":
            raise DataError("corrupt")
        row = {"capture_id": work.item_id, "kind": "internet", "views": [], "sync_method": "single", "take": ""}
        return {"captures": [row]}


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with session(tmp_path_factory.mktemp("session")) as url:
        yield url


def eventually(url: str, body: dict, enough: int) -> list[dict]:
    """Poll the server until it returns at least `enough` rows; return them. The server writes asynchronously."""
    answer: list[dict] = []
    for _ in range(100):
        answer = httpx.post(url, json=body).raise_for_status().json()
        if len(answer) >= enough:
            return answer
        time.sleep(0.2)
    raise AssertionError(f"{url} returned {len(answer)} rows after 20 s, expected at least {enough}")


def test_a_stage_is_seen_on_the_server(api: str, tmp_path: Path) -> None:
    from prefect import flow

    from opendimo.dags.labels import artifact_key
    from opendimo.dags.requests import Step
    from opendimo.dags.stages import map_stage

    lake, stage = Lake(tmp_path / "lake"), CaptureStage()
    works = [Work(f"k{i}", f"c{i}", name) for i, name in enumerate(["a", "b", "bad", "d"])]

    @flow
    def captures() -> list[int]:
        step = Step(stage, lambda: Planned.of(works))
        first = map_stage(lake, step)
        again = map_stage(lake, step)
        assert first == again
        return [first.inputs, first.done, first.rejected["data"]]

    assert captures() == [4, 3, 1]
    names = sorted(run["name"] for run in eventually(f"{api}/task_runs/filter", {}, 5))
    assert names == ["captures commit", *(f"captures part {k}" for k in range(4))]
    lines = [entry["message"] for entry in eventually(f"{api}/logs/filter", {"limit": 200}, 14)]
    assert "looking at bad" in lines
    tables = {"artifacts": {"type": {"any_": ["table"]}}}  # progress is shown as well, where it takes long
    artifacts = eventually(f"{api}/artifacts/filter", tables, 1)
    assert {a["key"] for a in artifacts} == {artifact_key("account captures", lake.uri)}


def test_the_newest_sample_video_is_shown_as_a_moving_picture(api: str, tmp_path: Path) -> None:
    from prefect import flow

    from opendimo.dags.flows.training import SAMPLE_SIZE, show_samples

    (tmp_path / "samples").mkdir()
    for step, grey in ((9, 0), (10, 200)):  # step 10 is the newer one, by number
        frames = np.full((40, 600, 64, 3), grey, np.uint8)
        frames[::2] += 20
        (tmp_path / "samples" / f"step-{step}.mp4").write_bytes(encode(frames, Fraction(15)))

    @flow
    def training() -> None:
        show_samples(str(tmp_path), "free@1", str(tmp_path))
        show_samples(str(tmp_path), "free@1", str(tmp_path / "none"))

    training()
    key = {"artifacts": {"key": {"like_": "samples-free-"}}}
    [artifact] = eventually(f"{api}/artifacts/filter", key, 1)
    [picture] = re.findall(r"\(data:image/gif;base64,(\S+)\)", artifact["data"])
    image = Image.open(io.BytesIO(base64.b64decode(picture)))
    assert image.n_frames > 1 and image.n_frames <= SAMPLE_SIZE[0] and max(image.size) == SAMPLE_SIZE[1]
    assert np.asarray(image.convert("RGB")).mean() > 150


def test_rejects_are_named_in_the_log_once_per_part_and_class(api: str, tmp_path: Path) -> None:
    from prefect import flow

    from opendimo.dags.requests import Step
    from opendimo.dags.stages import map_stage

    @flow
    def one_bad() -> None:
        map_stage(Lake(tmp_path / "lake"), Step(CaptureStage(), lambda: Planned.of([Work("k", "c", "bad")])))

    one_bad()
    wanted = "captures part 0: 1 rejected (data): bad; `dimo status` tells why"
    for _ in range(100):
        lines = httpx.post(f"{api}/logs/filter", json={"limit": 200}).raise_for_status().json()
        if found := [line for line in lines if line["message"] == wanted]:
            break
        time.sleep(0.2)
    assert [line["level"] for line in found] == [logging.WARNING] and found[0]["task_run_id"]


def test_the_dashboard_asks_the_server_that_serves_it(api: str) -> None:
    settings = httpx.get(api.removesuffix("/api") + "/ui-settings").raise_for_status().json()
    assert settings["api_url"] == api


class SlowStage(CaptureStage):
    """A stage that takes half a second for each piece of work."""

    def _make(self, work: Work) -> dict:
        time.sleep(0.5)
        return super()._make(work)


def run_slowly(lake: str, api: str, state: str, timeout_s: float | None = None) -> None:
    """Run two stages of 200 pieces of work each, on the server `api`."""
    from opendimo.dags.runs import RunCancelled

    os.environ["PREFECT_API_URL"] = api
    try:
        with session(Path(state), api):
            from prefect import flow

            from opendimo.dags.requests import Step
            from opendimo.dags.stages import map_stage

            @flow(name="slowly", timeout_seconds=timeout_s)
            def slowly() -> None:
                for k in range(2):
                    works = [Work(f"{k} {i}", f"{k} {i}", f"{k} {i}") for i in range(200)]
                    map_stage(Lake(lake), Step(SlowStage(), lambda works=works: Planned.of(works)))

            slowly()
    except RunCancelled:
        raise SystemExit(77) from None
    except TimeoutError:
        raise SystemExit(78) from None


def start_slowly(api: str, tmp_path: Path, timeout_s: float | None = None) -> tuple[Any, str]:
    """Start `run_slowly` in another process; return it and the id of its flow run once it has task runs."""
    process = multiprocessing.get_context("spawn").Process(
        target=run_slowly, args=(str(tmp_path / "lake"), api, str(tmp_path), timeout_s)
    )
    process.start()
    running = {"flows": {"name": {"any_": ["slowly"]}}, "flow_runs": {"state": {"type": {"any_": ["RUNNING"]}}}}
    for _ in range(600):
        runs = httpx.post(f"{api}/flow_runs/filter", json=running).raise_for_status().json()
        if runs:
            of_run = {
                "flow_runs": {"id": {"any_": [runs[0]["id"]]}},
                "task_runs": {"state": {"type": {"any_": ["RUNNING"]}}},
            }
            if httpx.post(f"{api}/task_runs/filter", json=of_run).raise_for_status().json():
                return process, str(runs[0]["id"])
        time.sleep(0.2)
    raise AssertionError("the flow did not start")


def states(api: str, flow_run: str) -> tuple[str, set[str]]:
    """Return the type of the state of a flow run, and those of its task runs."""
    task_runs = httpx.post(f"{api}/task_runs/filter", json={"flow_runs": {"id": {"any_": [flow_run]}}}).json()
    state = httpx.get(f"{api}/flow_runs/{flow_run}").raise_for_status().json()["state_type"]
    return state, {run["state_type"] for run in task_runs}


def test_a_cancelled_run_stops_at_once_and_commits_nothing(api: str, tmp_path: Path) -> None:
    process, flow_run = start_slowly(api, tmp_path)
    asked = {"state": {"type": "CANCELLING", "name": "Cancelling"}}
    httpx.post(f"{api}/flow_runs/{flow_run}/set_state", json=asked).raise_for_status()
    began = time.monotonic()
    process.join(60)
    assert process.exitcode == 77 and time.monotonic() - began < 60  # 15 s on an idle machine; the stages take longer
    state, of_tasks = states(api, flow_run)
    assert state == "CANCELLED" and of_tasks <= {"COMPLETED", "CANCELLED", "CRASHED", "FAILED"}
    assert Lake(tmp_path / "lake").dataset("captures").count_rows() == 0


@pytest.mark.slow
def test_a_run_that_exceeds_its_time_limit_stops_at_once_and_commits_nothing(api: str, tmp_path: Path) -> None:
    process, flow_run = start_slowly(api, tmp_path, timeout_s=25)
    process.join(90)
    assert process.exitcode == 78
    run = httpx.get(f"{api}/flow_runs/{flow_run}").raise_for_status().json()
    assert run["state"]["name"] == "TimedOut" and run["total_run_time"] < 40  # the stages take minutes
    assert Lake(tmp_path / "lake").dataset("captures").count_rows() == 0


def test_the_run_of_a_killed_process_is_closed_and_that_of_a_living_one_is_not(api: str) -> None:
    from prefect import flow
    from prefect.client.orchestration import get_client
    from prefect.states import Running

    from opendimo.dags.runs import close_dead_runs, process_tag

    @flow
    def labelled() -> None:
        pass

    other = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    with get_client(sync_client=True) as client:
        ids = [
            str(client.create_flow_run(labelled, tags=[process_tag(pid)], state=Running()).id)
            for pid in (os.getpid(), other.pid)
        ]
    assert close_dead_runs() == 0
    other.kill()
    other.wait()
    assert close_dead_runs() == 1
    assert [states(api, flow_run)[0] for flow_run in ids] == ["RUNNING", "CRASHED"]


def test_a_task_run_whose_end_was_not_recorded_gets_the_state_of_its_flow_run(api: str) -> None:
    from prefect import flow, task
    from prefect.client.orchestration import get_client
    from prefect.states import Completed, Failed, Pending, Running

    from opendimo.dags.runs import close_task_runs, process_tag

    made = flow(lambda: None, name="made")
    with get_client(sync_client=True) as client:
        ids = []
        for state in (Completed(), Failed(), Running()):
            run = client.create_flow_run(made, tags=[process_tag()], state=state)
            work = task(lambda: None, name=f"work {state.type}")
            ids.append(client.create_task_run(work, run.id, state.type.value, state=Pending()).id)
        assert close_task_runs(0.5) == 2
        assert [client.read_task_run(task_run).state.type.value for task_run in ids] == [
            "COMPLETED", "FAILED", "PENDING",
        ]  # fmt: skip


def test_a_lake_that_is_deleted_during_a_command_is_named(api: str, tmp_path: Path) -> None:
    lake = str(tmp_path / "lake")
    said = rf"{lake} was deleted during this command: restore it from a copy, .* \(the run is gone\)$"
    with pytest.raises(OSError, match=said), lake_session(lake, api, ray=False):
        shutil.rmtree(lake)
        raise ValueError("traceback of a worker\nthe run is gone")


def test_the_server_keeps_to_itself(api: str) -> None:
    assert api.startswith("http://127.0.0.1:")
    settings = httpx.get(f"{api}/admin/settings").json()
    assert settings["server"]["analytics_enabled"] is False


def published(api: str, count: int) -> list[str]:
    """Wait up to 60 s for `count` release events on the server; return the sorted ids of their releases."""
    body = {"filter": {"event": {"name": ["dataset.release.published"]}}}
    deadline = time.monotonic() + 60
    while True:
        events = httpx.post(f"{api}/events/filter", json=body).raise_for_status().json()["events"]
        if len(events) >= count or time.monotonic() > deadline:
            return sorted(event["payload"]["release"] for event in events)
        time.sleep(0.5)


def test_a_release_is_announced_when_it_may_be_used_and_once(api: str, tmp_path: Path) -> None:
    from opendimo.dags.flows.releases import approve, publish
    from opendimo.dags.labels import lake_slug

    lake = small_lake(tmp_path / "lake").uri
    assert [publish(lake, "free"), publish(lake, "free")] == ["free@1", "free@1"]
    assert publish(lake, "asking", ReleasePolicy(approval=True)) == "asking@1"
    assert published(api, 1) == ["free@1"]
    assert [approve(lake, "asking@1", "ann"), approve(lake, "asking@1", "bob")] == [True, False]
    assert published(api, 2) == ["asking@1", "free@1"]
    made = {"filter": {"event": {"name": ["prefect.asset.materialization.succeeded"]}}}
    events = httpx.post(f"{api}/events/filter", json=made).raise_for_status().json()["events"]
    assets = {event["resource"]["prefect.resource.name"]: event for event in events}
    assert (assets["release/free"]["payload"]["release"], assets["release/free"]["payload"]["pairs"]) == ("free@1", 3)
    made_from = [
        r["prefect.resource.id"] for r in assets["release/free"]["related"] if r["prefect.resource.role"] == "asset"
    ]
    assert made_from == [f"opendimo://{lake_slug(lake)}/pairs"]
    artifacts = httpx.post(f"{api}/artifacts/filter", json={}).raise_for_status().json()
    card = next(a for a in artifacts if a["key"].startswith("release-free-"))["data"]
    assert "| kind of pair | same_view | 3 |" in card


def hold_a_session(state: str, url: Any) -> None:
    os.environ.pop("PREFECT_API_URL", None)  # set by the session fixture of this module
    with session(Path(state), ray=False) as api:
        url.put(api)
        time.sleep(600)


@pytest.mark.slow
def test_the_server_ends_with_a_killed_command(tmp_path: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    url = spawn.Queue()
    process = spawn.Process(target=hold_a_session, args=(str(tmp_path), url))
    process.start()
    api = url.get(timeout=120)
    assert httpx.get(f"{api}/health", timeout=10).is_success
    process.kill()
    process.join()
    for _ in range(600):
        try:
            httpx.get(f"{api}/health", timeout=1)
        except httpx.TransportError:
            return
        time.sleep(0.1)
    raise AssertionError(f"the server at {api} is still running 60 s after its parent was killed")
