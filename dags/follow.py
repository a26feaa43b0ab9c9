"""Progress of work that says itself how much of it is done."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from opendimo.dags.progress import Step

MEGABYTE = 1_000_000


@contextmanager
def follow(name: str, unit: int = 1) -> Iterator[Callable[[int, int], None]]:
    """A step that begins with its first news: yields a function of (done, of how much), both counted in `unit`s."""
    shown: list[Step] = []
    reached = 0

    def report(done: int, total: int) -> None:
        nonlocal reached
        if not shown:
            shown.append(Step(name, -(-total // unit)))
        shown[0].advance(done // unit - reached)
        reached = done // unit

    try:
        yield report
    finally:
        for step in shown:
            step.end()
