"""Publishing tells the world once, and only what may be used."""

import time
from pathlib import Path

import httpx
import pytest

from dags.session import session
from storage_schemas.releases.policy import ReleasePolicy
from tests.storage_schemas.release_rows import small_lake


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory):
    with session(tmp_path_factory.mktemp("session")) as address:
        yield address


def published(api: str, count: int) -> list[str]:
    """The releases of the events on the server, once there are `count` of them."""
    asked = {"filter": {"event": {"name": ["dataset.release.published"]}}}
    deadline = time.monotonic() + 60
    while True:
        events = httpx.post(f"{api}/events/filter", json=asked).raise_for_status().json()["events"]
        if len(events) >= count or time.monotonic() > deadline:
            return sorted(event["payload"]["release"] for event in events)
        time.sleep(0.5)


def test_a_release_is_announced_when_it_may_be_used_and_once(api: str, tmp_path: Path) -> None:
    from dags.flows import approve, publish

    lake = small_lake(tmp_path / "lake").uri
    assert [publish(lake, "free"), publish(lake, "free")] == ["free@1", "free@1"]
    assert publish(lake, "asking", ReleasePolicy(approval=True)) == "asking@1"
    assert published(api, 1) == ["free@1"]
    assert [approve(lake, "asking@1", "ann"), approve(lake, "asking@1", "bob")] == [True, False]
    assert published(api, 2) == ["asking@1", "free@1"]
    artifacts = httpx.post(f"{api}/artifacts/filter", json={}).raise_for_status().json()
    card = next(a for a in artifacts if a["key"] == "release-free")["data"]
    assert "| kind of pair | same_view | 3 |" in card
