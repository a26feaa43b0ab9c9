"""A Prefect server on PostgreSQL: all commands of a dataset and a training, and a database that is killed."""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from opendimo.dags.services import Service
from opendimo.dags.session import lake_session
from opendimo.training.tiny_base import copy_tiny_base
from tests.dags import faults
from tests.dags.command import dimo
from tests.dags.fault_jobs import make_job, undisturbed
from tests.dags.postgres import Postgres, folder_of_programs
from tests.dags.test_end_to_end import copy_start

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(folder_of_programs() is None, reason="PostgreSQL is not installed: no pg_ctl on the PATH"),
]
ONE_VIEW = [
    *(f'schedule.stages.{number}.mix=[["same_view",1.0]]' for number in (1, 2)),
    'schedule.stages.2.sources=["internet"]',
]
"""Settings of training for a release with internet clips only."""


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    programs = folder_of_programs()
    assert programs is not None
    with Postgres.running(programs) as running:
        yield running


@pytest.fixture(scope="module")
def server(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Service]]:
    database = {"PREFECT_SERVER_DATABASE_CONNECTION_URL": postgres.url}
    with faults.running_server(tmp_path_factory.mktemp("server"), database) as running:
        yield running


def test_all_commands_from_ingestion_to_training_pass(
    postgres: Postgres, server: tuple[str, Service], data: Path, tmp_path: Path
) -> None:
    videos, lake, out = tmp_path / "videos", tmp_path / "lake", tmp_path / "out"
    videos.mkdir()
    for name in ("juggle_static_fullbody.mp4", "generated_dance_indoor.mp4"):  # one is held out, one trained on
        copy_start(data / "internet" / name, videos / name, 2.5)
    base = copy_tiny_base(tmp_path / "base")
    window = ["--num-frames", "9", "--frame-step", "2", "--width", "64", "--height", "64"]
    training = ["--release", "dance@1", "--base", base, "--steps", "6", "--out", out]
    commands: list[list[str | Path]] = [
        ["ingest", "internet", videos, "--licence", "test"],
        ["label"],
        ["caption"],
        ["encode", "--base", base, *window],
        ["release", "create", "dance"],
        ["train", *training, *(word for setting in ONE_VIEW for word in ("--set", setting))],
    ]
    with lake_session(str(lake), server[0]):  # one Ray cluster for all commands
        for command in commands:
            answer = dimo(*command, "--lake", lake, "--prefect-api", server[0])
            assert answer.returncode == 0, answer.stderr
    assert (out / "pipeline").is_dir()
    query = "select f.name, r.state_type::text from flow_run r join flow f on f.id = r.flow_id order by r.start_time"
    names = ["ingest", "cut", "label", "caption", "encode", "publish", "train", *["train stage"] * 3]
    assert asyncio.run(postgres.rows(query)) == [(name, "COMPLETED") for name in names]
    open_tasks = "select name from task_run where state_type in ('RUNNING', 'PENDING')"
    assert asyncio.run(postgres.rows(open_tasks)) == []


@pytest.mark.parametrize("job_name", ["ingest", "train"])
def test_a_database_that_is_killed_delays_a_command_and_changes_nothing(
    postgres: Postgres,
    server: tuple[str, Service],
    job_name: str,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def kill_database(_: faults.Disturbed) -> None:
        postgres.kill()
        time.sleep(10)
        postgres.start()

    monkeypatch.setitem(faults.FAULTS, "database", kill_database)
    job = make_job(job_name, data, tmp_path)
    expected = undisturbed(job, tmp_path / "calm")
    outcome = faults.disturb(job, "database", tmp_path / "killed", expected, *server)
    print(outcome)
    assert (outcome.code, outcome.state, outcome.wrong) == (0, "Completed", [])
