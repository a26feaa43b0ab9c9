"""Slots for scarce hardware, as global concurrency limits of the Prefect server."""

from collections.abc import Iterator
from contextlib import contextmanager

from prefect.concurrency.sync import concurrency

GPU = "opendimo-gpu"
"""Held while a flow trains or generates. `dimo serve` creates it; without it, nothing waits."""


@contextmanager
def slot(name: str) -> Iterator[None]:
    """Hold a slot of the limit `name`; wait until one is free. A slot of a process that died is freed in 5 minutes."""
    with concurrency(name, occupy=1):
        yield
