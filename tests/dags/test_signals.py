"""What a command does when it is stopped, and its exit codes."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import typer

from opendimo.dags.commands.execute import check_rejected
from opendimo.dags.runs import signals_kept
from opendimo.dags.services import free_port
from opendimo.pipelines.engine.work_status import Account
from opendimo.storage_schemas.lake.lake import Lake
from tests.dags.command import dimo


def start(videos: Path, lake: Path) -> "subprocess.Popen[str]":
    code = "from opendimo.dags.cli import main; main()"
    command = [sys.executable, "-c", code, "ingest", "internet", str(videos), "--lake", str(lake)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_a_command_which_then_goes_on(number: signal.Signals, data: Path, tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    process = start(data / "internet", lake)
    while not (lake.exists() and any(lake.rglob("*.json")) and Lake(lake).dataset("sources").count_rows()):
        assert process.poll() is None
        time.sleep(0.2)
    time.sleep(3)  # videos are being cut
    began = time.monotonic()
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + number and time.monotonic() - began < 30
    line = f"stopped by {number.name}; run the same command to go on"
    assert errors.count(line) == 1 and "Traceback" not in errors
    assert dimo("ingest", "internet", data / "internet", "--lake", lake).returncode == 0
    assert Lake(lake).dataset("clips").count_rows() > 0


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_exit_code_tells_the_signal_if_it_interrupts_ray(number: signal.Signals) -> None:
    code = """if True:
        import os, threading
        from opendimo.dags import cli
        from opendimo.pipelines.engine.runner import ray_session

        def wait():
            with ray_session(cpus=1):
                import ray
                threading.Timer(1, os.kill, (os.getpid(), NUMBER)).start()
                ray.wait([ray.remote(lambda: threading.Event().wait()).remote()], timeout=60)

        cli.app = wait
        cli.main()
    """.replace("NUMBER", str(int(number)))
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert answer.returncode == 128 + number, answer.stderr
    assert f"stopped by {number.name}" in answer.stderr


class NoRuns(BaseHTTPRequestHandler):
    """Answers as a Prefect server without flow runs."""

    def do_GET(self) -> None:
        self._answer({"token": "any", "client": "any", "expiration": "2100-01-01T00:00:00Z"})

    def do_POST(self) -> None:
        self._answer([])

    def _answer(self, body: object) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())

    def log_message(self, *_: object) -> None:
        pass


def test_a_command_says_when_the_server_stops_answering_and_when_it_answers_again() -> None:
    code = """if True:
        from opendimo.dags import runs
        runs.POLL_SECONDS, runs.SILENT_SECONDS = 0.2, 1.0
        with runs.cancellable():
            input()
    """
    port = free_port()
    environment = os.environ | {"PREFECT_API_URL": f"http://127.0.0.1:{port}/api"}
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )
    assert process.stderr is not None
    with process:
        assert process.stderr.readline().startswith(
            f"the Prefect server at http://127.0.0.1:{port}/api does not answer ("
        )
        with HTTPServer(("127.0.0.1", port), NoRuns) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            assert process.stderr.readline() == f"the Prefect server at http://127.0.0.1:{port}/api answers again\n"
            process.communicate("\n", timeout=60)
            server.shutdown()
    assert process.returncode == 0


@pytest.mark.parametrize("stop", [SystemExit(143), KeyboardInterrupt()])
def test_a_signal_in_compiled_code_is_no_failure(stop: BaseException) -> None:
    with pytest.raises(type(stop)), signals_kept():
        raise SystemError("returned a result with an exception set") from stop
    with pytest.raises(SystemError), signals_kept():
        raise SystemError("another one") from ValueError("wrong")


def test_an_error_of_a_worker_is_one_line_that_says_what_to_do() -> None:
    code = """
import errno
from ray.exceptions import RayTaskError  # in a process of its own: Ray reads its token when it is imported
from opendimo.dags.cli import _message
error = RayTaskError("stage", "Traceback ...", OSError(errno.ENOSPC, "No space left on device"))
print(_message(error.as_instanceof_cause()))
"""
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown == "[Errno 28] No space left on device: free space, then run the same command to go on\n"


@pytest.mark.parametrize(
    ("rejected", "limit", "fails"),
    [(0, 1.0, False), (3, 1.0, False), (4, 1.0, True), (2, 0.5, True), (1, 0.5, False), (0, 0.0, False)],
)
def test_too_many_rejects_are_a_failure(
    rejected: int, limit: float, fails: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    account = Account("sources", 4, 4 - rejected, rejected={"data": rejected} if rejected else {})
    if not fails:
        return check_rejected([account], limit)
    with pytest.raises(typer.Exit) as exit_:
        check_rejected([account], limit)
    assert exit_.value.exit_code == 3
    assert capsys.readouterr().err.startswith(f"sources: {rejected} of 4 inputs are rejected")


@pytest.mark.slow
def test_a_command_whose_inputs_are_all_rejected_fails(tmp_path: Path) -> None:
    videos = tmp_path / "videos"
    videos.mkdir()
    (videos / "broken.mp4").write_bytes(b"not a video")
    answer = dimo("ingest", "internet", videos, "--lake", tmp_path / "lake")
    assert answer.returncode == 3
    assert "sources: 1 of 1 inputs are rejected; `dimo status` tells why" in answer.stderr
