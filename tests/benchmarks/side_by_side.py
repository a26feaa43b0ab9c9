"""Several ways of doing the same work, timed in turn."""

import statistics
import time
from collections.abc import Callable

from rich.console import Console
from rich.table import Table

Job = Callable[[], object]


def compare(title: str, ours: Job, reference: Job, repeats: int = 5) -> None:
    """Run both once to warm up, then `repeats` times in turn; print seconds and the ratio pair by pair."""
    ours(), reference()
    seconds = in_turn({"ours": ours, "reference": reference}, repeats)
    table = Table("", "min", "median", "max", title=title, title_justify="left")
    rows = {
        "ours, s": seconds["ours"],
        "reference, s": seconds["reference"],
        "ours / reference": ratios(seconds["ours"], seconds["reference"]),
    }
    for name, values in rows.items():
        table.add_row(name, *(f"{f(values):.3f}" for f in (min, statistics.median, max)))
    Console().print(table)


def in_turn(jobs: dict[str, Job], rounds: int, before: Job = lambda: None) -> dict[str, list[float]]:
    """Seconds of each job in each round. Every round runs all jobs, from another one on; `before` each, untimed."""
    names, seconds = list(jobs), {name: [] for name in jobs}
    for k in range(rounds):
        shift = k % len(names)
        for name in names[shift:] + names[:shift]:
            before()
            seconds[name].append(_seconds(jobs[name]))
    return seconds


def ratios(ours: list[float], reference: list[float]) -> list[float]:
    """Round by round."""
    return [a / b for a, b in zip(ours, reference, strict=True)]


def _seconds(job: Job) -> float:
    started = time.perf_counter()
    job()
    return time.perf_counter() - started
