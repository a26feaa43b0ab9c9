"""The flow runs of a process: tag them, stop them when they are cancelled, and close those of processes that died.

Prefect cancels only flow runs that its own workers started. Commands run their flows themselves, so a thread asks the
server whether a run shall be cancelled (state `Cancelling`, from the dashboard or the API), and interrupts the command.
"""

import os
import platform
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import httpx
import psutil

PREFIX = "process:"
POLL_SECONDS = 3.0
OPEN = ("RUNNING", "PENDING", "CANCELLING")
"""Types of states of runs that have not ended."""
PAGE = 200


class RunCancelled(SystemExit):
    """The flow run was cancelled from the dashboard or the API; the process ends as after SIGTERM.

    Prefect retries no task that a `SystemExit` interrupts.
    """


def process_tag() -> str:
    """Return the tag of this process's flow runs: host, process id, and time at which the process started."""
    return f"{PREFIX}{platform.node()}:{os.getpid()}:{psutil.Process().create_time():.2f}"


@contextmanager
def cancellable(api: str) -> Iterator[None]:
    """Tag the flow runs that start in this context. If one is cancelled, interrupt them all and raise `RunCancelled`.

    Signals reach the main thread only: in other threads, flow runs are tagged but not interrupted.
    """
    from prefect import tags

    tag = process_tag()
    if threading.current_thread() is not threading.main_thread():
        with tags(tag):
            yield
        return
    watch = _Watch(api, tag)
    before = signal.signal(signal.SIGTERM, lambda number, frame: watch.on_signal(number, frame, before))
    watch.start()
    try:
        with tags(tag):
            yield
    except RunCancelled:
        close_runs(api, watch.interrupted, "CANCELLED", "Cancelled: staged work is kept; run the command again")
        raise
    finally:
        watch.stop()
        signal.signal(signal.SIGTERM, before)


class _Watch(threading.Thread):
    """Sends this process SIGTERM when one of its flow runs shall be cancelled."""

    def __init__(self, api: str, tag: str) -> None:
        super().__init__(name="cancellation", daemon=True)
        self._api, self._tag = api, tag
        self._ended, self._raised = threading.Event(), False
        self.interrupted: list[dict[str, Any]] = []
        """The open flow runs of this process when one of them was cancelled."""

    def run(self) -> None:
        while not self._ended.wait(POLL_SECONDS):
            try:
                found = open_runs(self._api, [self._tag])
            except httpx.HTTPError:  # the server is busy or restarts
                continue
            if any(run["state_type"] == "CANCELLING" for run in found) and not self._ended.is_set():
                self.interrupted = found
                os.kill(os.getpid(), signal.SIGTERM)
                return

    def stop(self) -> None:
        self._ended.set()

    def on_signal(self, number: int, frame: Any, before: Any) -> None:
        """Raise `RunCancelled` if this thread sent the signal; otherwise handle it as `before`."""
        if self.interrupted and not self._raised:
            self._raised = True
            print("cancelled; run the same command to go on", file=sys.stderr)
            raise RunCancelled(128 + number)
        if callable(before):
            before(number, frame)
        elif before == signal.SIG_DFL:
            raise SystemExit(128 + number)


def close_dead_runs(api: str) -> int:
    """Mark the flow runs of processes of this host that have died as crashed; return their number.

    A process is known by its id and start time, so that another one with the same id is not taken for it.
    """
    host = f"{PREFIX}{platform.node()}:"
    dead = []
    for run in open_runs(api):
        tag = next((tag for tag in run["tags"] if tag.startswith(host)), None)
        if tag is not None and not _is_alive(*tag.removeprefix(host).split(":")):
            dead.append(run)
    close_runs(api, dead, "CRASHED", "Crashed: the process died; staged work is kept; run the command again")
    return len(dead)


def _is_alive(pid: str, started: str) -> bool:
    try:
        return f"{psutil.Process(int(pid)).create_time():.2f}" == started
    except (psutil.NoSuchProcess, ValueError):
        return False


def open_runs(api: str, tags: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Return the flow runs that have not ended, with all of these tags."""
    wanted: dict[str, Any] = {"state": {"type": {"any_": list(OPEN)}}}
    if tags:
        wanted["tags"] = {"all_": list(tags)}
    return _all_pages(f"{api}/flow_runs/filter", {"flow_runs": wanted})


def close_runs(api: str, runs: Sequence[dict[str, Any]], state: str, message: str) -> None:
    """Set the final state of flow runs and of their task runs that have not ended."""
    new = {"state": {"type": state, "name": state.capitalize(), "message": message}, "force": True}
    for run in runs:
        unfinished = {"state": {"type": {"any_": list(OPEN)}}}
        of_run = {"flow_runs": {"id": {"any_": [run["id"]]}}, "task_runs": unfinished}
        for task_run in _all_pages(f"{api}/task_runs/filter", of_run):
            httpx.post(f"{api}/task_runs/{task_run['id']}/set_state", json=new).raise_for_status()
        httpx.post(f"{api}/flow_runs/{run['id']}/set_state", json=new).raise_for_status()


def _all_pages(url: str, body: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    while True:
        page = httpx.post(url, json=body | {"limit": PAGE, "offset": len(found)}, timeout=30).raise_for_status().json()
        found += page
        if len(page) < PAGE:
            return found
