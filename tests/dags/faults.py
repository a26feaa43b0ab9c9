"""Disturb a command in the middle of its work, run it again, and compare the result with an undisturbed run.

    python -m tests.dags.faults --data shared/data [--job ingest|train] [--fault NAME ...]

prints a table: what the command said and how it ended, the state of its flow run, and what differs after it was run
again: tables and videos of the lake, or losses and weights of the training, and flow or task runs that look open.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx

from opendimo.dags.runs import OPEN
from opendimo.dags.services import Service, free_port, prefect_server
from opendimo.dags.session import environment, quiet_environment, session
from opendimo.model.tiny import make_tiny_base
from opendimo.storage_schemas.ids import sha256_bytes
from opendimo.storage_schemas.lake.lake import Lake
from opendimo.storage_schemas.lake.runs import staged_shards, unfinished
from opendimo.storage_schemas.releases.release import create_release
from tests.dags.command import dimo
from tests.dags.processes import Process, descendants
from tests.dags.stored import stored
from tests.training.conftest import fill as fill_lake

DIMO = [sys.executable, "-c", "from opendimo.dags.cli import main; main()"]
LIMIT = 420.0
"""Time limit of a command, in seconds."""


class Ingest:
    """`dimo ingest` of short videos. A place is a folder with the folder `lake`."""

    name, flow = "ingest", "cut"

    def __init__(self, videos: Path) -> None:
        self.videos = videos

    def prepare(self, place: Path) -> None:
        place.mkdir(parents=True, exist_ok=True)

    def command(self, place: Path) -> list[str]:
        return ["ingest", "internet", str(self.videos), "--licence", "test", "--lake", str(place / "lake")]

    def is_midway(self, place: Path) -> bool:
        """Return whether the stage `clips` has staged a part of its shards."""
        lake = place / "lake"
        if not (lake / "tables" / "ledger.lance").is_dir():
            return False
        runs = [run for run in unfinished(Lake(lake)) if run.get("stage") == "clips"]
        return any(1 <= staged_shards(Lake(lake), run["run_id"]) < run["shards"] for run in runs)

    def result(self, place: Path) -> dict[Any, str]:
        lake = Lake(place / "lake")
        left = {("unfinished", run["run_id"], ""): "a run that was not committed" for run in unfinished(lake)}
        return stored(lake) | left

    def writes_to(self, place: Path) -> Path:
        return place / "lake"


class Train:
    """`dimo train` on a copy of a lake with the release dance@1. A place also has the folder `out`."""

    name, flow = "train", "train"

    def __init__(self, lake: Path, base: Path, steps: int) -> None:
        self.lake, self.base, self.steps = lake, base, steps

    def prepare(self, place: Path) -> None:
        shutil.copytree(self.lake, place / "lake", ignore=shutil.ignore_patterns("session"))

    def command(self, place: Path) -> list[str]:
        given = ["train", "--release", "dance@1", "--base", str(self.base), "--lake", str(place / "lake")]
        return [*given, "--steps", str(self.steps), "--set", "checkpoint_every=8", "--out", str(place / "out")]

    def is_midway(self, place: Path) -> bool:
        with suppress(OSError):
            return len((place / "out" / "metrics.jsonl").read_text().splitlines()) > self.steps // 2
        return False

    def result(self, place: Path) -> dict[Any, str]:
        out = place / "out"
        lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
        losses = {("loss", str(number), ""): line["loss"] for number, line in enumerate(lines) if "loss" in line}
        weights = {
            ("weights", str(file.relative_to(out)), ""): sha256_bytes(file.read_bytes())
            for file in sorted((out / "pipeline").rglob("*.safetensors"))
        }
        return losses | weights

    def writes_to(self, place: Path) -> Path:
        return place / "out"


Job = Ingest | Train


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


def kill_server_for_ten_seconds(on: Disturbed) -> None:
    for process in descendants(os.getpid()):
        if "prefect server start" in process.command or "prefect.server" in process.command:
            process.kill()
    time.sleep(10)
    on.server.start()


def cancel(on: Disturbed) -> None:
    [run] = [run for run in on.main_runs() if run["state_type"] == "RUNNING"]
    on.post(f"flow_runs/{run['id']}/set_state", state={"type": "CANCELLING", "name": "Cancelling"})


def delete_lake(on: Disturbed) -> None:
    shutil.rmtree(on.place / "lake", ignore_errors=True)


def fill_disk(on: Disturbed) -> None:
    """Fill the file system that the command writes to; it must be a small one (`small_disk`)."""
    with suppress(OSError), (on.job.writes_to(on.place) / ".ballast").open("wb", buffering=0) as ballast:
        while ballast.write(bytes(1 << 20)):
            pass


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
    "full": fill_disk,
}


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


@contextmanager
def small_disk(path: Path, megabytes: int) -> Iterator[None]:
    """Mount a file system in memory at `path`; needs root."""
    path.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(path)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)


def start(job: Job, place: Path, log_name: str = "log") -> "subprocess.Popen[bytes]":
    with (place / log_name).open("ab") as log:
        return subprocess.Popen([*DIMO, *job.command(place)], stdout=log, stderr=log, start_new_session=True)


def last_line(log: Path) -> str:
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1] if lines else ""


def undisturbed(job: Job, place: Path) -> dict[Any, str]:
    """Run the command and return its result."""
    job.prepare(place)
    answer = dimo(*job.command(place))
    assert answer.returncode == 0, answer.stderr[-3000:]
    return job.result(place)


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
    (job.writes_to(place) / ".ballast").unlink(missing_ok=True)
    if fault == "deleted" and isinstance(job, Train):  # as from a copy
        shutil.copytree(job.lake, place / "lake", dirs_exist_ok=True, ignore=shutil.ignore_patterns("session"))
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


def make_job(name: str, data: Path, folder: Path) -> Job:
    """Make the inputs of a job in `folder`: copies of three short videos, or a small made lake with a release."""
    if name == "train":
        base, lake = make_tiny_base(folder / "base"), Lake(folder / "made")
        fill_lake(lake, base)
        create_release(lake, "dance")
        return Train(folder / "made", base, 32)
    videos = folder / "videos"
    videos.mkdir()
    for video in ("pan_right", "static", "tilt_up"):
        shutil.copyfile(data / "internet" / "virtual_camera" / f"{video}.mp4", videos / f"{video}.mp4")
    return Ingest(videos)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the test data")
    parser.add_argument("--job", choices=["ingest", "train"], default="ingest")
    parser.add_argument("--fault", nargs="+", choices=FAULTS, default=list(FAULTS))
    given = parser.parse_args()
    os.environ["PYTHONPATH"] = str(Path(__file__).parents[2] / ".src")
    folder = Path(tempfile.mkdtemp(prefix="faults-"))
    # one Ray cluster for all commands of this process; those that are disturbed start their own
    with running_server(folder / "server") as (api, server), session(folder / "session", api):
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
