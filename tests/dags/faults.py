"""Disturb a command in the middle of its work, run it again, and compare the result with an undisturbed run.

    python -m tests.dags.faults --data shared/data [--job ingest|label|train] [--fault NAME ...]

prints a table: what the command said and how it ended, the state of its flow run, and what differs after it was run
again: tables and videos of the lake, or losses and weights of the training, and flow or task runs that look open.
"""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx

from opendimo.dags.runs import OPEN
from opendimo.dags.services import Service, free_port, prefect_server
from opendimo.dags.session import environment, quiet_environment, session
from tests.dags.command import dimo
from tests.dags.fault_jobs import Ingest, Job, Train, copy_lake, make_job, undisturbed
from tests.dags.processes import Process, descendants
from tests.small_disk import BALLAST, fill_disk, small_disk

DIMO = [sys.executable, "-c", "from opendimo.dags.cli import main; main()"]
LIMIT = 420.0
"""Time limit of a command, in seconds."""


@dataclass
class Disturbed:
    """A command in the middle of its work."""

    job: Job
    place: Path
    process: "subprocess.Popen[bytes]"
    api: str
    server: Service

    def find(self, part: str) -> Process:
        """Return a descendant of the command by a part of its command line."""
        return next(process for process in descendants(self.process.pid) if part in process.command)

    def post(self, path: str, **body: Any) -> Any:
        return httpx.post(f"{self.api}/{path}", json=body, timeout=60).raise_for_status().json()

    def runs(self) -> list[dict[str, Any]]:
        """Return the flow runs of the place, oldest first."""
        tags = {"all_": [f"lake:{self.place.name}/lake"]}
        return list(self.post("flow_runs/filter", flow_runs={"tags": tags}, sort="START_TIME_ASC"))

    def main_runs(self) -> list[dict[str, Any]]:
        """Return the flow runs that do the work, without their child runs."""
        return [run for run in self.runs() if f"flow:{self.job.flow}" in run["tags"]]


def kill_worker(on: Disturbed) -> None:
    on.find("ray::Worker").kill()


def kill_raylet(on: Disturbed) -> None:
    on.find("raylet/raylet").kill()


def kill_server(on: Disturbed) -> None:
    for process in descendants(os.getpid()):
        if "prefect server start" in process.command or "prefect.server" in process.command:
            process.kill()


def kill_server_for_ten_seconds(on: Disturbed) -> None:
    kill_server(on)
    time.sleep(10)
    on.server.start()


def cancel(on: Disturbed) -> None:
    [run] = [run for run in on.main_runs() if run["state_type"] == "RUNNING"]
    on.post(f"flow_runs/{run['id']}/set_state", state={"type": "CANCELLING", "name": "Cancelling"})


def delete_lake(on: Disturbed) -> None:
    shutil.rmtree(on.place / "lake", ignore_errors=True)


def fill_output(on: Disturbed) -> None:
    """Fill the disk to which the command writes; training, which waits for space, gets it back after 30 seconds."""
    folder = on.job.writes_to(on.place)
    fill_disk(folder)
    if isinstance(on.job, Train):
        time.sleep(30)
        (folder / BALLAST).unlink()


FAULTS: dict[str, Callable[[Disturbed], object]] = {
    "driver": lambda on: on.process.kill(),
    "worker": kill_worker,
    "raylet": kill_raylet,
    "server": kill_server_for_ten_seconds,
    "SIGTERM": lambda on: on.process.terminate(),
    "SIGINT": lambda on: on.process.send_signal(signal.SIGINT),
    "cancel": cancel,
    "two": lambda on: None,  # the same command runs at the same time from the beginning
    "deleted": delete_lake,
    "full": fill_output,
    "state full": lambda on: fill_disk(on.server.log.parent),
    "server gone": kill_server,
}


def repair(on: Disturbed, fault: str) -> None:
    """Do what a person does about a fault before the command runs again."""
    for folder in (on.job.writes_to(on.place), on.server.log.parent):
        (folder / BALLAST).unlink(missing_ok=True)
    if fault == "deleted" and not isinstance(on.job, Ingest):
        copy_lake(on.job.lake, on.place)
    if fault == "server gone":
        on.server.start()
        on.server.wait_until_ready()


@dataclass(frozen=True)
class Outcome:
    """What happened: exit codes of the disturbed command and of the next one, and what is wrong afterwards."""

    fault: str
    code: int
    said: str
    state: str
    seconds: float
    again: int | None
    wrong: list[str]


@contextmanager
def running_server(folder: Path, extra: dict[str, str] | None = None) -> Iterator[tuple[str, Service]]:
    """Run a Prefect server for all commands; yield the URL of its API and the service."""
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    server = prefect_server(folder, port)
    server = replace(server, environment={**quiet_environment(folder), **server.environment, **(extra or {})})
    server.start()
    try:
        server.wait_until_ready()
        with environment(folder):
            os.environ["PREFECT_API_URL"] = f"http://127.0.0.1:{port}/api"
            yield os.environ["PREFECT_API_URL"], server
    finally:
        server.stop()


def start(job: Job, place: Path, log_name: str = "log") -> "subprocess.Popen[bytes]":
    with (place / log_name).open("ab") as log:
        return subprocess.Popen([*DIMO, *job.command(place)], stdout=log, stderr=log, start_new_session=True)


def last_line(log: Path) -> str:
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1] if lines else ""


def disturb(job: Job, fault: str, place: Path, expected: dict[Any, str], api: str, server: Service) -> Outcome:
    """Run the command with a fault in the middle, and again unless it ended well; compare with `expected`."""
    job.prepare(place)
    process = start(job, place)
    second = start(job, place, "second.log") if fault == "two" else None
    on = Disturbed(job, place, process, api, server)
    while not job.is_midway(place):
        assert process.poll() is None, f"the command ended too early: {last_line(place / 'log')}"
        time.sleep(0.05)
    began = time.monotonic()
    FAULTS[fault](on)
    code = process.wait(LIMIT)
    if second is not None:
        print(f"the second command: exit code {second.wait(LIMIT)}, {last_line(place / 'second.log')}", flush=True)
    seconds, said = time.monotonic() - began, last_line(place / "log") if code != 0 else ""
    (place / "log").rename(place / "disturbed.log")
    repair(on, fault)
    again = dimo(*job.command(place)).returncode if code != 0 else None
    found = {} if again else job.result(place)
    differ = [key for key in sorted(expected.keys() | found.keys(), key=str) if expected.get(key) != found.get(key)]
    wrong = [f"{key}: {found.get(key)}, expected {expected.get(key)}"[:200] for key in differ[:5]]
    runs = on.runs()
    state = next((run["state"]["name"] for run in on.main_runs()), "no run")
    return Outcome(fault, code, said, state, seconds, again, wrong + open_runs(on, runs, code))


def open_runs(on: Disturbed, runs: list[dict[str, Any]], code: int) -> list[str]:
    """Return what the server says that is not so: runs that look open, or a state that contradicts the exit code."""
    ids = [run["id"] for run in runs]
    tasks = on.post("task_runs/filter", flow_runs={"id": {"any_": ids}}, task_runs={"state": OPEN}, limit=200)
    wrong = [f"{run['name']} is {run['state_type']}" for run in runs if run["state_type"] in OPEN["type"]["any_"]]
    wrong += [f"the task run {task['name']} is {task['state_type']}" for task in tasks]
    first, last = [on.main_runs()[k] for k in (0, -1)]
    if (first["state_type"] == "COMPLETED") != (code == 0):
        wrong.append(f"{first['name']} is {first['state_type']} with exit code {code}")
    if last["state_type"] != "COMPLETED":
        wrong.append(f"{last['name']}, run again, is {last['state_type']}")
    return wrong


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the test data")
    parser.add_argument("--job", choices=["ingest", "label", "train"], default="ingest")
    parser.add_argument("--fault", nargs="+", choices=FAULTS, default=list(FAULTS))
    given = parser.parse_args()
    os.environ["PYTHONPATH"] = str(Path(__file__).parents[2] / ".src")
    folder = Path(tempfile.mkdtemp(prefix="faults-"))
    # one Ray cluster for all commands of this process; those that are disturbed start their own
    state = small_disk(folder / "server", 128) if "state full" in given.fault else nullcontext()
    with state, running_server(folder / "server") as (api, server), session(folder / "session", api):
        job = make_job(given.job, given.data, folder)
        expected = undisturbed(job, folder / "calm")
        print(f"{given.job} in {folder}: {len(expected)} values in an undisturbed run", flush=True)
        for fault in given.fault:
            place = folder / fault
            with small_disk(job.writes_to(place), 256) if fault == "full" else nullcontext():
                try:
                    print(disturb(job, fault, place, expected, api, server), flush=True)
                except (AssertionError, StopIteration, subprocess.TimeoutExpired, ValueError, OSError) as error:
                    print(f"{fault}: {type(error).__name__} {error}", flush=True)


if __name__ == "__main__":
    main()
