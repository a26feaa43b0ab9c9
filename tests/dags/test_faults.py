"""Faults in the middle of `dimo ingest`, `label` and `train`: nothing is lost; Prefect says what the ledger says."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from opendimo.dags.services import Service
from opendimo.dags.session import session
from tests.dags import faults
from tests.dags.fault_jobs import Job, make_job, undisturbed

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
EXPECTED = {
    "driver": (-9, "Crashed", ""),
    "worker": (0, "Completed", ""),
    "raylet": (1, "Crashed", "Ray has died on this machine"),
    "server": (0, "Completed", ""),
    "server gone": (1, "Crashed", "then run the same command to go on"),
    "SIGTERM": (143, "Crashed", ""),
    "SIGINT": (130, "Crashed", ""),
    "cancel": (143, "Cancelled", "cancelled; run the same command to go on"),
    "deleted": (1, "Failed", "from a copy"),
}
"""Exit code, state of the flow run, and part of the last line that the command prints."""
CASES = [
    *(("ingest", fault) for fault in EXPECTED),
    *(("label", fault) for fault in ("driver", "worker", "SIGTERM", "cancel")),  # it shares the rest with `ingest`
    *(("train", fault) for fault in EXPECTED),
]
Prepared = tuple[Job, dict[Any, str], str, Service]


@pytest.fixture(scope="module")
def prepared(
    request: pytest.FixtureRequest, data: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Prepared]:
    """Return a job, its undisturbed result, and a Prefect server."""
    folder = tmp_path_factory.mktemp(request.param)
    with faults.running_server(folder / "server") as (api, server), session(folder / "session", api):
        job = make_job(request.param, data, folder)
        yield job, undisturbed(job, folder / "calm"), api, server


@pytest.mark.parametrize(("prepared", "fault"), CASES, indirect=["prepared"])
def test_a_fault_changes_no_result(prepared: Prepared, fault: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    job, expected, api, server = prepared
    outcome = faults.disturb(job, fault, tmp_path_factory.mktemp(fault), expected, api, server)
    print(outcome)
    code, state, said = EXPECTED[fault]
    assert (outcome.code, outcome.state) == (code, state)
    assert said in outcome.said
    assert outcome.again in (None, 0) and outcome.wrong == []
