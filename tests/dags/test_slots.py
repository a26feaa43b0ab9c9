"""Slots of concurrency limits, on a real Prefect server."""

import io
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from opendimo.dags import progress
from opendimo.dags.session import session
from tests.dags.faults import running_server

NAME = "test-slot"


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with session(tmp_path_factory.mktemp("session"), ray=False) as url:
        from prefect.client.orchestration import get_client

        with get_client(sync_client=True) as client:
            client.upsert_global_concurrency_limit_by_name(NAME, 1)
        yield url


def test_a_run_that_waits_for_a_slot_says_who_holds_it(api: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from prefect import flow

    from opendimo.dags.slots import holders, slot

    output = io.StringIO()
    monkeypatch.setattr(progress.console, "file", output)
    order: list[str] = []

    @flow(flow_run_name="train dance@2")
    def second() -> None:
        with slot(NAME):
            order.append("second")

    @flow(flow_run_name="train dance@1")
    def first() -> threading.Thread:
        with slot(NAME):
            waiter = threading.Thread(target=second)
            waiter.start()
            deadline = time.monotonic() + 60
            while "held by train dance@1" not in output.getvalue():
                assert time.monotonic() < deadline, output.getvalue()
                time.sleep(0.1)
            assert holders(NAME) == ["train dance@1"]
            order.append("first")
        return waiter

    first().join(60)
    assert order == ["first", "second"]
    assert holders(NAME) == []
    assert f"wait for {NAME}" in output.getvalue()


def test_a_later_session_of_a_process_gets_slots_from_its_own_server(api: str, tmp_path: Path) -> None:
    def hold_slot(server: str) -> None:
        from prefect.client.orchestration import get_client

        from opendimo.dags.slots import slot

        with session(tmp_path, server, ray=False), get_client(sync_client=True) as client:
            client.upsert_global_concurrency_limit_by_name("later-slot", 1)
            with slot("later-slot"):
                pass

    with running_server(tmp_path / "server") as (first, _):
        hold_slot(first)
    hold_slot(api)
