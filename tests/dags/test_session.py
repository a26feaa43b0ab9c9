"""Test stages as Prefect tasks, and release events, on a real Prefect server and a real Ray cluster."""

import logging
import multiprocessing
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from opendimo.dags.session import session
from opendimo.pipelines.engine.planned import Planned
from opendimo.pipelines.engine.stage import DataError, Needs, Outcome, Work, run_each
from opendimo.storage_schemas.lake.lake import Lake
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
    artifacts = eventually(f"{api}/artifacts/filter", {}, 1)
    assert {a["key"] for a in artifacts} == {"account-captures"}


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
    from opendimo.dags.flows import approve, publish

    lake = small_lake(tmp_path / "lake").uri
    assert [publish(lake, "free"), publish(lake, "free")] == ["free@1", "free@1"]
    assert publish(lake, "asking", ReleasePolicy(approval=True)) == "asking@1"
    assert published(api, 1) == ["free@1"]
    assert [approve(lake, "asking@1", "ann"), approve(lake, "asking@1", "bob")] == [True, False]
    assert published(api, 2) == ["asking@1", "free@1"]
    artifacts = httpx.post(f"{api}/artifacts/filter", json={}).raise_for_status().json()
    card = next(a for a in artifacts if a["key"] == "release-free")["data"]
    assert "| kind of pair | same_view | 3 |" in card


def hold_a_session(state: str, url: Any) -> None:
    os.environ.pop("PREFECT_API_URL", None)  # set by the session fixture of this module
    with session(Path(state), ray=False) as api:
        url.put(api)
        time.sleep(600)


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
