"""Show the progress of a step in the Prefect dashboard, as a progress artifact of its flow run."""

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import copy_context
from typing import cast
from uuid import UUID

EVERY_SECONDS = 10.0


@contextmanager
def shown_in_dashboard(name: str, share: Callable[[], float]) -> Iterator[None]:
    """Update an artifact with `share()` (0 to 1) while a step runs that takes longer than `EVERY_SECONDS`.

    Does nothing outside of flow runs. A thread talks to the server, so that a server that does not answer delays
    nothing.
    """
    if "prefect" not in sys.modules or not _in_flow_run():
        yield
        return
    ended = threading.Event()
    thread = threading.Thread(target=copy_context().run, args=(_update, name, share, ended), daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()


def _in_flow_run() -> bool:
    from prefect.context import FlowRunContext

    return FlowRunContext.get() is not None


def _update(name: str, share: Callable[[], float], ended: threading.Event) -> None:
    import httpx
    from prefect.artifacts import create_progress_artifact, update_progress_artifact

    artifact: UUID | None = None
    while not ended.wait(EVERY_SECONDS) or artifact is not None:
        done = 100 * share()
        with suppress(httpx.HTTPError):  # the server restarts: the next update is soon
            if artifact is None:
                artifact = cast(UUID, create_progress_artifact(done, description=f"Progress of {name}"))
            else:
                update_progress_artifact(artifact, done)
        if ended.is_set():
            return
