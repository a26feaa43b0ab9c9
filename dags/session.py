"""The machinery a flow runs on: a Prefect server and a Ray cluster, started here and taken down again, or pointed to.

A real server, not Prefect's ephemeral one: that lost up to half of the task-run records in trials.
"""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path

import httpx
from filelock import FileLock

from opendimo.pipelines.engine.runner import ray_session
from opendimo.storage_schemas.lake.lake import Lake

START_SECONDS = 300


@contextmanager
def session(
    state: Path, prefect_api: str | None = None, ray_address: str | None = None, ray: bool = True
) -> Iterator[str]:
    """Prefect and (with `ray`) Ray for as long as the context; yields the address of the Prefect API.

    `state` keeps the server's database and log. Import `prefect` only inside: its settings come from the environment.
    """
    before = dict(os.environ)
    state.mkdir(parents=True, exist_ok=True)
    os.environ |= quiet_environment(state)
    api = prefect_api or os.environ.get("PREFECT_API_URL")
    with ExitStack() as stack:
        stack.callback(_restore, before)
        ready = None
        if api is None:
            api, ready = stack.enter_context(_server(state))
            stack.callback(_flush)
        os.environ["PREFECT_API_URL"] = api
        if ray:  # while the server is on its way
            stack.enter_context(ray_session(ray_address or os.environ.get("RAY_ADDRESS")))
        if ready:
            ready()
        _read_settings_again()
        yield api


def lake_session(
    lake: str, prefect_api: str | None = None, ray_address: str | None = None, ray: bool = True
) -> AbstractContextManager[str]:
    """A session whose state lies in the lake's folder, or in this machine's cache of a lake elsewhere."""
    return session(Lake(lake).local / "session", prefect_api, ray_address, ray)


def _read_settings_again() -> None:
    """A session before this one may have imported Prefect, which reads the environment once."""
    if "prefect" in sys.modules:
        from prefect.context import refresh_global_settings_context

        refresh_global_settings_context()


def _restore(environment: dict[str, str]) -> None:
    token = {name: value for name, value in os.environ.items() if name.startswith("RAY_AUTH")}  # Ray keeps to its first
    os.environ.clear()
    os.environ.update(environment | token)


def quiet_environment(state: Path) -> dict[str, str]:
    """Telemetry of all parts off, state in one folder, and a console that belongs to the progress display: an error
    is said once, by `dimo`; Prefect's own words are in the log of the flow run."""
    return {
        "PREFECT_HOME": str(state / "prefect"),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
        # a lease kept in memory is lost, and its slot leaked, when the server restarts
        "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
        "PREFECT_CLI_PROMPT": "false",
        "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": os.environ.get("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL"),
        "NO_PROXY": ",".join(filter(None, [os.environ.get("NO_PROXY"), "127.0.0.1", "localhost"])),
        "DO_NOT_TRACK": "1",
        "RAY_USAGE_STATS_ENABLED": "0",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }


@contextmanager
def _server(state: Path) -> Iterator[tuple[str, Callable[[], None]]]:
    """A server on its way: its address, and what to call before it is used."""
    port = _free_port()
    url = f"http://127.0.0.1:{port}/api"
    server = ["prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    with ExitStack() as stack:
        lock = stack.enter_context(FileLock(str(state / "start.lock")))  # of two at once, both would make the database
        with open(state / "prefect-server.log", "ab") as log:
            command = [sys.executable, "-m", "opendimo.dags.child", *server]
            process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        stack.callback(_end, process)

        def ready() -> None:
            _wait_until_healthy(url, process, state / "prefect-server.log")
            lock.release()

        yield url, ready


def _end(process: "subprocess.Popen[bytes]") -> None:
    with suppress(ProcessLookupError):  # it ended by itself
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _flush() -> None:
    """Send what Prefect still keeps, before the server is gone."""
    if "prefect" in sys.modules:
        from prefect.events.worker import EventsWorker
        from prefect.logging.handlers import APILogWorker

        APILogWorker.drain_all(timeout=5)
        EventsWorker.drain_all(timeout=5)


def _wait_until_healthy(url: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"the Prefect server ended at once with code {process.returncode}: see {log}")
        try:
            if httpx.get(f"{url}/health", timeout=2).is_success:
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.2)
    raise RuntimeError(f"the Prefect server was not healthy after {START_SECONDS} s: see {log}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
