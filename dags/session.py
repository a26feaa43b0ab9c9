"""Sessions: the Prefect server and Ray cluster that flows run on, either started and stopped here or external.

Starts a real Prefect server: the ephemeral one lost up to half of the task-run records in our tests.
"""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, cast

import httpx
from filelock import FileLock

from opendimo.dags.runs import cancellable, close_dead_runs, close_task_runs
from opendimo.dags.services import free_port, prefect_server
from opendimo.dags.serving.address import served_api
from opendimo.pipelines.engine.runner import ray_session
from opendimo.storage_schemas.lake.lake import Lake, is_lake


@contextmanager
def session(
    state: Path, prefect_api: str | None = None, ray_address: str | None = None, ray: bool = True
) -> Iterator[str]:
    """Run Prefect and, with `ray`, Ray for the duration of the context; yield the URL of the Prefect API.

    Flow runs of processes that died are marked as crashed. If a flow run of this context is cancelled, it raises
    `RunCancelled`.

    `state`: folder for the database and log of the server. `prefect_api`, `ray_address`: existing services to use
    instead of starting them; a server that `dimo serve` runs for `state` is also used. Import `prefect` only inside the
    context, because it reads its settings from the environment when imported.
    """
    state.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        stack.enter_context(environment(state))
        api = prefect_api or os.environ.get("PREFECT_API_URL") or served_api(state)
        ready = None
        if api is None:
            api, ready = stack.enter_context(_server(state))
        stack.callback(_disconnect)
        os.environ["PREFECT_API_URL"] = api
        if ray:  # start Ray while the server is starting
            stack.enter_context(ray_session(ray_address or os.environ.get("RAY_ADDRESS")))
        if ready:
            ready()
        refresh_prefect_settings()
        close_dead_runs()
        with cancellable():
            yield api


@contextmanager
def lake_session(
    lake: str, prefect_api: str | None = None, ray_address: str | None = None, ray: bool = True
) -> Iterator[str]:
    """Run a session with its state in the folder of the lake, or in the local cache folder of a remote lake.

    Raises `OSError` if the lake is deleted meanwhile.
    """
    with session(Lake(lake).local / "session", prefect_api, ray_address, ray) as api:
        try:
            yield api
        except Exception as error:
            if is_lake(lake):
                raise
            advice = "restore it from a copy, or run the same command to begin anew"
            reason = str(error).strip().rpartition("\n")[2]  # an error of a Ray worker begins with a traceback
            raise OSError(f"{lake} was deleted during this command: {advice} ({reason})") from error


def refresh_prefect_settings() -> None:
    """Reload the Prefect settings if an earlier session imported Prefect, which reads the environment only once."""
    if "prefect" in sys.modules:
        from prefect.context import refresh_global_settings_context

        refresh_global_settings_context()


@contextmanager
def environment(state: Path) -> Iterator[None]:
    """Set the environment variables of `quiet_environment`; restore all variables on exit."""
    before = dict(os.environ)
    os.environ |= quiet_environment(state)
    try:
        yield
    finally:
        # Ray keeps using the first token of the process, so later sessions need it too
        token = {name: value for name, value in os.environ.items() if name.startswith("RAY_AUTH")}
        os.environ.clear()
        os.environ.update(before | token)


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
        # a server whose database is down answers 500: wait and ask again, for about a minute
        "PREFECT_CLIENT_RETRY_EXTRA_CODES": "500,504",
        "PREFECT_CLI_PROMPT": "false",
        # its internal services would print a traceback for each request to a server that is gone
        "PREFECT_LOGGING_INTERNAL_LEVEL": "CRITICAL",
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
    port = free_port()
    server = prefect_server(state, port)
    with ExitStack() as stack:
        # servers starting at the same time would both create the database
        lock = stack.enter_context(FileLock(str(state / "start.lock")))
        server.start()
        stack.callback(server.stop)

        def ready() -> None:
            server.wait_until_ready()
            lock.release()

        yield f"http://127.0.0.1:{port}/api", ready


def _disconnect() -> None:
    """Send the logs and events that Prefect has buffered, and end its connections to the server of the session.

    They are kept per process: a later session on another server would send to this one, and fail to get slots of
    concurrency limits, which Prefect also asks for the tags of every task run. Then close task runs whose end the
    server has not recorded.
    """
    if "prefect" in sys.modules:
        from prefect.concurrency.services import ConcurrencySlotAcquisitionWithLeaseService
        from prefect.events.worker import EventsWorker
        from prefect.logging.handlers import APILogWorker

        unsent: set[Any] = set()
        for service in (APILogWorker, EventsWorker, ConcurrencySlotAcquisitionWithLeaseService):
            unsent |= cast(tuple[set[Any], set[Any]], service.drain_all(timeout=5))[1]
        if unsent:  # the server is gone or fails: do not try for minutes when the process exits
            os.environ["PREFECT_CLIENT_MAX_RETRIES"] = "0"
            refresh_prefect_settings()
        with suppress(httpx.HTTPError):  # the server may be gone; a later command then closes them
            close_task_runs()
