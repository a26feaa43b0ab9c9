"""Sessions: the Prefect server and Ray cluster that flows run on, either started and stopped here or external.

Starts a real Prefect server: the ephemeral one lost up to half of the task-run records in our tests.
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

from opendimo.dags.runs import cancellable, close_dead_runs
from opendimo.pipelines.engine.runner import ray_session
from opendimo.storage_schemas.lake.lake import Lake

START_SECONDS = 300


@contextmanager
def session(
    state: Path, prefect_api: str | None = None, ray_address: str | None = None, ray: bool = True
) -> Iterator[str]:
    """Run Prefect and, with `ray`, Ray for the duration of the context; yield the URL of the Prefect API.

    Flow runs of processes that died are marked as crashed. If a flow run of this context is cancelled, it raises
    `RunCancelled`.

    `state`: folder for the database and log of the server. `prefect_api`, `ray_address`: existing services to use
    instead of starting them. Import `prefect` only inside the context, because it reads its settings from the
    environment when imported.
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
        if ray:  # start Ray while the server is starting
            stack.enter_context(ray_session(ray_address or os.environ.get("RAY_ADDRESS")))
        if ready:
            ready()
        _refresh_prefect_settings()
        close_dead_runs()
        with cancellable():
            yield api


def lake_session(
    lake: str, prefect_api: str | None = None, ray_address: str | None = None, ray: bool = True
) -> AbstractContextManager[str]:
    """Return a session with its state in the folder of the lake, or in the local cache folder of a remote lake."""
    return session(Lake(lake).local / "session", prefect_api, ray_address, ray)


def _refresh_prefect_settings() -> None:
    """Reload the Prefect settings if an earlier session imported Prefect, which reads the environment only once."""
    if "prefect" in sys.modules:
        from prefect.context import refresh_global_settings_context

        refresh_global_settings_context()


def _restore(environment: dict[str, str]) -> None:
    # Ray keeps using the first token of the process, so later sessions need it too
    ray_token = {name: value for name, value in os.environ.items() if name.startswith("RAY_AUTH")}
    os.environ.clear()
    os.environ.update(environment | ray_token)


def quiet_environment(state: Path) -> dict[str, str]:
    """Return environment variables that disable telemetry, keep state in one folder and silence console logs.

    The console is left to the progress display. `dimo` prints each error once; Prefect logs are in the flow run.
    """
    return {
        "PREFECT_HOME": str(state / "prefect"),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
        # leases in memory are lost when the server restarts, which leaks their concurrency slots
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
    """Start a server; yield its URL and a function that waits until it is ready."""
    port = _free_port()
    url = f"http://127.0.0.1:{port}/api"
    environment = os.environ | {"PREFECT_SERVER_UI_API_URL": url}  # by default the dashboard asks port 4200
    server = ["prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    with ExitStack() as stack:
        # servers starting at the same time would both create the database
        lock = stack.enter_context(FileLock(str(state / "start.lock")))
        with open(state / "prefect-server.log", "ab") as log:
            command = [sys.executable, "-m", "opendimo.dags.child", *server]
            process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
        stack.callback(_terminate, process)

        def ready() -> None:
            _wait_until_healthy(url, process, state / "prefect-server.log")
            lock.release()

        yield url, ready


def _terminate(process: "subprocess.Popen[bytes]") -> None:
    with suppress(ProcessLookupError):  # already exited
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _flush() -> None:
    """Send the logs and events that Prefect has buffered, before the server stops."""
    if "prefect" in sys.modules:
        from prefect.events.worker import EventsWorker
        from prefect.logging.handlers import APILogWorker

        APILogWorker.drain_all(timeout=5)
        EventsWorker.drain_all(timeout=5)


def _wait_until_healthy(url: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"the Prefect server exited during startup with code {process.returncode}: see {log}")
        try:
            if httpx.get(f"{url}/health", timeout=2).is_success:
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.2)
    raise RuntimeError(f"the Prefect server did not become healthy within {START_SECONDS} s: see {log}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
