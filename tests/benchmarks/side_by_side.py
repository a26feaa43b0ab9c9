"""Two ways of doing the same work, timed in turn."""

import statistics
import time
from collections.abc import Callable

from rich.console import Console
from rich.table import Table

Job = Callable[[], object]


def compare(title: str, ours: Job, reference: Job, repeats: int = 5) -> None:
    """Run both once to warm up, then `repeats` times in turn; print seconds and the ratio pair by pair."""
    ours(), reference()
    pairs = [(_seconds(ours), _seconds(reference)) for _ in range(repeats)]
    table = Table("", "min", "median", "max", title=title, title_justify="left")
    rows = {
        "ours, s": [a for a, _ in pairs],
        "reference, s": [b for _, b in pairs],
        "ours / reference": [a / b for a, b in pairs],
    }
    for name, values in rows.items():
        table.add_row(name, *(f"{f(values):.3f}" for f in (min, statistics.median, max)))
    Console().print(table)


def _seconds(job: Job) -> float:
    started = time.perf_counter()
    job()
    return time.perf_counter() - started
