"""Services that run as child processes: the Prefect server, a Ray cluster, a Prefect worker."""

import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx

START_SECONDS = 300
STOP_SECONDS = 15.0
FULL_BYTES = 16 << 20
"""Free space below which a disk is called full."""
PORTS = range(20000, 32768)
"""Ports that services started here may use: above Ray's workers, below the ephemeral ports of Linux."""


@dataclass
class Service:
    """A child process, which ends with this one. Its output goes to the file `log`.

    `command`: arguments of `python -m`. `ready`: returns whether the service answers.
    """

    name: str
    command: Sequence[str]
    log: Path
    environment: Mapping[str, str]
    ready: Callable[[], bool]
    stop_seconds: float = STOP_SECONDS
    _process: "subprocess.Popen[bytes] | None" = field(default=None, init=False)

    def start(self) -> None:
        """Start the process in a process group of its own."""
        command = [sys.executable, "-m", "opendimo.dags.child", *self.command]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                command, env=os.environ | self.environment, stdout=log, stderr=log, start_new_session=True
            )

    def wait_until_ready(self) -> None:
        """Wait until the service answers. Raises `RuntimeError` if it exits or needs more than `START_SECONDS`."""
        deadline = time.monotonic() + START_SECONDS
        while not self.ready():
            if (code := self.exit_code()) is not None:
                raise RuntimeError(f"{self.name} exited during startup with code {code}{self._cause()}")
            if time.monotonic() > deadline:
                raise RuntimeError(f"{self.name} was not ready after {START_SECONDS} s{self._cause()}")
            time.sleep(0.2)

    def _cause(self) -> str:
        """Return what is known about a failure: a full disk, or where the log is."""
        if shutil.disk_usage(self.log.parent).free < FULL_BYTES:
            return f": the disk of {self.log.parent} is full"
        return f": see {self.log}"

    def exit_code(self) -> int | None:
        """Return the exit code of the process, or None while it runs."""
        return None if self._process is None else self._process.poll()

    def stop(self, seconds: float | None = None) -> None:
        """Send SIGTERM to the process group, and SIGKILL to what is left of it after `seconds` or `stop_seconds`."""
        if self._process is None:
            return
        deadline = time.monotonic() + (self.stop_seconds if seconds is None else seconds)
        with suppress(ProcessLookupError):  # all have exited
            os.killpg(self._process.pid, signal.SIGTERM)
            while time.monotonic() < deadline:
                self._process.poll()  # a process that is not waited for counts as one of its group
                os.killpg(self._process.pid, 0)
                time.sleep(0.1)
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


def prefect_server(state: Path, port: int, metrics: bool = False) -> Service:
    """Return a Prefect server of this machine, with its log in the folder `state`.

    Its database is where `PREFECT_HOME` says. `metrics`: serve its own metrics for Prometheus at /api/metrics.
    """
    url = f"http://127.0.0.1:{port}/api"
    return Service(
        "the Prefect server",
        ["prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)],
        state / "prefect-server.log",
        # by default the dashboard asks port 4200
        {"PREFECT_SERVER_UI_API_URL": url, "PREFECT_SERVER_METRICS_ENABLED": str(metrics).lower()},
        lambda: answers(url),
    )


def answers(api: str) -> bool:
    """Return whether a Prefect server answers at the URL `api`.

    Checks the body as well, because some servers, such as exporters of metrics, answer any path with status 200.
    """
    try:
        return httpx.get(f"{api}/health", timeout=2).json() is True
    except (httpx.HTTPError, ValueError):
        return False


def is_free(port: int) -> bool:
    """Return whether nothing listens on a port of this machine."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return True
    return False


def free_port() -> int:
    """Return a random port of this machine on which nothing listens.

    The system gives ports of `PORTS` to no program that asks for any free port, and Ray's workers use those below, so
    that the port is still free when a service that takes seconds to start listens on it. Raises `RuntimeError` if
    none is free.
    """
    for port in random.sample(PORTS, 100):
        if is_free(port):
            return port
    raise RuntimeError(f"no free port between {PORTS.start} and {PORTS.stop}")
