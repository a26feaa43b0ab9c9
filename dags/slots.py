"""Slots for scarce hardware, as global concurrency limits of the Prefect server."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import copy_context
from uuid import UUID

import httpx
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter
from prefect.concurrency.sync import concurrency
from prefect.context import FlowRunContext

from opendimo.dags.progress import waiting

GPU = "opendimo-gpu"
"""Held while a flow trains or generates. `dimo serve` creates it; without it, nothing waits."""
SAY_AFTER_SECONDS = 2.0
AGAIN_SECONDS = 15.0


@contextmanager
def slot(name: str) -> Iterator[None]:
    """Hold a slot of the limit `name`; wait until one is free. A slot of a process that died is freed in 5 minutes.

    The progress display says what the slot is waited for. Flow runs that hold it have the tag `holds:NAME`.
    """
    held = threading.Event()
    threading.Thread(target=copy_context().run, args=(_show_holders, name, held), daemon=True).start()
    try:
        with concurrency(name, occupy=1):
            held.set()
            with _tagged(f"holds:{name}"):
                yield
    finally:
        held.set()


def holders(name: str) -> list[str]:
    """Return the names of the flow runs that hold a slot of the limit `name`."""
    running = {"tags": {"all_": [f"holds:{name}"]}, "state": {"type": {"any_": ["RUNNING", "CANCELLING"]}}}
    with get_client(sync_client=True) as client:
        return sorted(run.name for run in client.read_flow_runs(flow_run_filter=FlowRunFilter.model_validate(running)))


def _show_holders(name: str, held: threading.Event) -> None:
    """Show who holds the slots of the limit `name` until `held` is set."""
    if held.wait(SAY_AFTER_SECONDS):
        return
    with waiting(f"wait for {name}") as note:
        while True:
            with suppress(httpx.HTTPError):  # the server restarts: ask again later
                note(f"held by {', '.join(holders(name)) or 'a run that has just ended or died'}")
            if held.wait(AGAIN_SECONDS):
                return


@contextmanager
def _tagged(tag: str) -> Iterator[None]:
    """Give the current flow run a tag for the duration of the context."""
    context = FlowRunContext.get()
    if context is None or context.flow_run is None:
        yield
        return
    _set_tag(context.flow_run.id, tag, True)
    try:
        yield
    finally:
        _set_tag(context.flow_run.id, tag, False)


def _set_tag(flow_run: UUID, tag: str, present: bool) -> None:
    with suppress(httpx.HTTPError), get_client(sync_client=True) as client:  # a tag is no reason to fail
        tags = {*client.read_flow_run(flow_run).tags} - {tag}
        client.update_flow_run(flow_run, tags=sorted(tags | ({tag} if present else set())))
