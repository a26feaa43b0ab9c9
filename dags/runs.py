"""The flow runs of a process: tag them, stop them when they are cancelled, and close those of processes that died.

Prefect cancels only flow runs that its own workers started. Commands run their flows themselves, so a thread asks the
server whether a run shall be cancelled (state `Cancelling`, from the dashboard or the API), and interrupts the command.
"""

import os
import platform
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar

import httpx
import psutil

from opendimo.pipelines.engine.runner import is_ray_lost

if TYPE_CHECKING:  # prefect reads its settings when it is imported: not before a session has set them
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.objects import FlowRun, TaskRun
    from prefect.states import State

PREFIX = "process:"
POLL_SECONDS = 3.0
SILENT_SECONDS = 20.0
"""Time without an answer of the server after which the command says so; restarts are shorter."""
OPEN = {"type": {"any_": ["RUNNING", "PENDING", "CANCELLING"]}}
"""Filter for the states of runs that have not ended."""
ENDED = {"type": {"any_": ["COMPLETED", "FAILED", "CRASHED", "CANCELLED"]}}
"""Filter for the states of runs that have ended."""
RECORDED_SECONDS = 5.0
"""Time in which a server records how a task run ended, in ordinary operation."""
PAGE = 200
Found = TypeVar("Found")


class RunCancelled(SystemExit):
    """The flow run was cancelled from the dashboard or the API; the process ends as after SIGTERM.

    Prefect retries no task that a `SystemExit` interrupts.
    """


class RayLost(OSError):
    """Ray has died on this machine."""


def process_tag(pid: int | None = None) -> str:
    """Return the tag of the flow runs of a process, by default of this one: host, process id, and its start time."""
    process = psutil.Process(pid)
    return f"{PREFIX}{platform.node()}:{process.pid}:{process.create_time():.2f}"


@contextmanager
def cancellable() -> Iterator[None]:
    """Tag the flow runs that start in this context. If one is cancelled, interrupt them all and raise `RunCancelled`.

    If Ray dies on this machine, interrupt them too, and raise `RayLost`. Signals reach the main thread only: in other
    threads, flow runs are tagged but not interrupted.
    """
    from prefect import tags
    from prefect.states import Cancelled

    tag = process_tag()
    if threading.current_thread() is not threading.main_thread():
        with tags(tag):
            yield
        return
    watch = _Watch(tag)
    before = signal.signal(signal.SIGTERM, lambda number, frame: watch.on_signal(number, frame, before))
    watch.start()
    try:
        with tags(tag):
            yield
    except RunCancelled:
        _close(watch.interrupted, Cancelled(message="staged work is kept; run the command again to go on"))
        raise
    finally:
        watch.stop()
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)


@contextmanager
def signals_kept() -> Iterator[None]:
    """Raise what a signal handler raised, also if it interrupted `ray.wait` in the main thread.

    Ray's compiled code then raises a `SystemError` instead, which a task would take for a failure and retry.
    """
    try:
        yield
    except SystemError as error:
        if error.__cause__ is None or isinstance(error.__cause__, Exception):
            raise
        raise error.__cause__ from None


class _Watch(threading.Thread):
    """Sends this process SIGTERM when a flow run shall be cancelled or Ray has died; names a server that is silent."""

    def __init__(self, tag: str) -> None:
        super().__init__(name="cancellation", daemon=True)
        self._tag, self._api = tag, os.environ.get("PREFECT_API_URL")
        self._ended, self._raised, self._ray_lost = threading.Event(), False, False
        self._answered, self._told = (
            time.monotonic(),
            False,
        )  # when the server last answered; whether its silence was told
        self.interrupted: Sequence[FlowRun] = ()
        """The open flow runs of this process when one of them was cancelled."""

    def run(self) -> None:
        while not self._ended.wait(POLL_SECONDS):
            if is_ray_lost() and not self._ended.is_set():
                self._ray_lost = True
                os.kill(os.getpid(), signal.SIGTERM)
                return
            try:
                found = _open_runs([self._tag], retries=0)
            except httpx.HTTPError as error:  # the server is busy, restarts or is lost
                self._on_silence(error)
                continue
            self._on_answer()
            if any(run.state is not None and run.state.is_cancelling() for run in found) and not self._ended.is_set():
                self.interrupted = found
                os.kill(os.getpid(), signal.SIGTERM)
                return

    def _on_silence(self, error: httpx.HTTPError) -> None:
        if self._told or self._ended.is_set() or time.monotonic() - self._answered < SILENT_SECONDS:
            return
        self._told = True
        print(
            f"the Prefect server at {self._api} does not answer ({error}); the command goes on as far as it can",
            file=sys.stderr,
        )

    def _on_answer(self) -> None:
        if self._told:
            print(f"the Prefect server at {self._api} answers again", file=sys.stderr)
        self._answered, self._told = time.monotonic(), False

    def stop(self) -> None:
        self._ended.set()

    def on_signal(self, number: int, frame: Any, before: Any) -> None:
        """Raise `RunCancelled` or `RayLost` if this thread sent the signal; otherwise handle it as `before`."""
        if self._ray_lost and not self._raised:
            self._raised = True
            raise RayLost("Ray has died on this machine; staged work is kept: run the same command to go on")
        if self.interrupted and not self._raised:
            self._raised = True
            print("cancelled; run the same command to go on", file=sys.stderr)
            raise RunCancelled(128 + number)
        if callable(before):
            before(number, frame)
        elif before != signal.SIG_IGN:
            raise SystemExit(128 + number)


def close_dead_runs() -> int:
    """Mark the flow runs of processes of this host that have died as crashed; return their number.

    Also close task runs whose flow run ended long ago, see `close_task_runs`.
    """
    from prefect.states import Crashed

    dead = _dead_runs()
    _close(dead, Crashed(message="the process died; staged work is kept; run the command again to go on"))
    _close_task_runs({"end_time": {"before_": datetime.now(UTC) - timedelta(seconds=RECORDED_SECONDS)}})
    return len(dead)


def close_task_runs(seconds: float = RECORDED_SECONDS) -> int:
    """Close the task runs of this process that look open after their flow run ended; return their number.

    The server records states of task runs from events, with a delay, and loses some if its database is down
    meanwhile. Waits up to `seconds` for them, then gives a task run the state of its flow run. Raises
    `httpx.HTTPError` at the first request that fails: a command that ends because the server fails shall end soon.
    """
    from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings

    of_process = {"tags": {"all_": [process_tag()]}}
    deadline = time.monotonic() + seconds
    with temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}):
        while _lost_task_runs(of_process):
            if time.monotonic() > deadline:
                return _close_task_runs(of_process)
            time.sleep(0.2)
    return 0


def reschedule_stopped_runs(pending: bool = False) -> int:
    """Schedule the runs of deployments whose processes were stopped, so that they go on when a worker is there again.

    `pending`: also those that no process has begun; use it only if the one worker of the server has stopped. Returns
    their number. Their child runs are marked as crashed: they are created anew.
    """
    from prefect.client.orchestration import get_client
    from prefect.states import AwaitingRetry, Crashed

    dead = _dead_runs()
    again = [run for run in dead if run.deployment_id is not None]
    if pending:
        again += [run for run in _open_runs() if run.deployment_id is not None and not _was_begun(run)]
    _close([run for run in dead if run.deployment_id is None], Crashed(message="the service was stopped"))
    with get_client(sync_client=True) as client:
        for run in again:
            state: State[Any] = AwaitingRetry(message="the service was stopped; goes on when it is started again")
            client.set_flow_run_state(run.id, state, force=True)
    return len(again)


def _was_begun(run: "FlowRun") -> bool:
    return any(tag.startswith(PREFIX) for tag in run.tags)


def _dead_runs() -> "list[FlowRun]":
    """Return the open flow runs of processes of this host that have died.

    A process is known by its id and start time, so that another one with the same id is not taken for it.
    """
    host = f"{PREFIX}{platform.node()}:"
    dead = []
    for run in _open_runs():
        tag = next((tag for tag in run.tags if tag.startswith(host)), None)
        if tag is not None and not _is_alive(*tag.removeprefix(host).split(":")):
            dead.append(run)
    return dead


def _is_alive(pid: str, started: str) -> bool:
    try:
        return f"{psutil.Process(int(pid)).create_time():.2f}" == started
    except (psutil.NoSuchProcess, ValueError):
        return False


def _open_runs(tags: Sequence[str] = (), retries: int | None = None) -> "list[FlowRun]":
    """Return the flow runs that have not ended, with all of these tags. `retries`: of each request, None as usual."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import FlowRunFilter
    from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings

    tagged = {"tags": {"all_": list(tags)}} if tags else {}
    wanted = FlowRunFilter.model_validate({"state": OPEN} | tagged)
    limited = {} if retries is None else {PREFECT_CLIENT_MAX_RETRIES: retries}
    with temporary_settings(limited), get_client(sync_client=True) as client:
        return _all(lambda offset: client.read_flow_runs(flow_run_filter=wanted, limit=PAGE, offset=offset))


def _close(runs: "Sequence[FlowRun]", state: "State[Any]") -> None:
    """Set the final state of flow runs and of their task runs that have not ended."""
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        for run in runs:
            for task_run in _open_task_runs(client, run):
                client.set_task_run_state(task_run.id, state, force=True)
            client.set_flow_run_state(run.id, state, force=True)


def _close_task_runs(flow_runs: dict[str, Any]) -> int:
    """Give the open task runs of ended flow runs the state of their flow run; return their number.

    `flow_runs`: a filter of flow runs.
    """
    from prefect.client.orchestration import get_client
    from prefect.states import State

    lost = _lost_task_runs(flow_runs)
    with get_client(sync_client=True) as client:
        for task_run in lost:
            if task_run.flow_run_id is not None and (ended := client.read_flow_run(task_run.flow_run_id).state):
                message = "the server did not record how this task run ended: its state is that of its flow run"
                state: State[Any] = State(type=ended.type, name=ended.name, message=message)
                client.set_task_run_state(task_run.id, state, force=True)
    return len(lost)


def _lost_task_runs(flow_runs: dict[str, Any]) -> "list[TaskRun]":
    """Return the task runs that look open although their flow run, one of a filter, has ended."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import FlowRunFilter, TaskRunFilter

    ended, unfinished = (
        FlowRunFilter.model_validate({"state": ENDED} | flow_runs),
        TaskRunFilter.model_validate({"state": OPEN}),
    )
    with get_client(sync_client=True) as client:
        return _all(
            lambda offset: client.read_task_runs(
                flow_run_filter=ended, task_run_filter=unfinished, limit=PAGE, offset=offset
            )
        )


def _open_task_runs(client: "SyncPrefectClient", run: "FlowRun") -> "list[TaskRun]":
    from prefect.client.schemas.filters import FlowRunFilter, TaskRunFilter

    of_run = FlowRunFilter.model_validate({"id": {"any_": [run.id]}})
    unfinished = TaskRunFilter.model_validate({"state": OPEN})
    return _all(
        lambda offset: client.read_task_runs(
            flow_run_filter=of_run, task_run_filter=unfinished, limit=PAGE, offset=offset
        )
    )


def _all(read: Callable[[int], list[Found]]) -> list[Found]:
    """Return all pages; `read` returns the page that begins at an offset."""
    found: list[Found] = []
    while len(page := read(len(found))) == PAGE:
        found += page
    return found + page
