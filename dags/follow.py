"""Progress display for work that reports its own progress through a callback."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from opendimo.dags.progress import Step

MEGABYTE = 1_000_000


@contextmanager
def follow(name: str, unit: int = 1) -> Iterator[Callable[[int, int], None]]:
    """Yield a callback `(done, total)` that updates a progress step. The step is shown from the first call on.

    `unit`: size of one displayed unit; `done` and `total` are divided by it.
    """
    bars: list[Step] = []
    reached = 0

    def report(done: int, total: int) -> None:
        nonlocal reached
        if not bars:
            bars.append(Step(name, -(-total // unit)))
        bars[0].advance(done // unit - reached)
        reached = done // unit

    try:
        yield report
    finally:
        for bar in bars:
            bar.end()
