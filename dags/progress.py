"""Progress display of running flows: a bar per stage on a terminal, otherwise a log line per minute.

Both show throughput and remaining time.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)
from rich.text import Text

from opendimo.dags.progress_artifact import shown_in_dashboard
from opendimo.dags.show import duration

RECENT = 600.0  # window of the throughput estimate, in seconds: the cost of work items drifts over a long run
QUIET = 60.0  # minimum interval between two lines without a terminal, in seconds

console = Console(stderr=True, highlight=False)
_live: Progress | None = None
_lock = threading.Lock()


@contextmanager
def display() -> Iterator[None]:
    """Display the progress of all steps in this context.

    Without a terminal, each step prints at most a line per minute, and a line when it ends.
    """
    global _live  # noqa: PLW0603  one terminal, one display
    if not console.is_terminal or _live is not None:
        yield
        return
    columns = TextColumn("{task.description:<22}"), BarColumn(20), MofNCompleteColumn(), TimeElapsedColumn(), _Pace()
    note = TextColumn("[dim]{task.fields[note]}")
    with Progress(*columns, note, console=console, speed_estimate_period=RECENT) as live:
        _live = live
        try:
            yield
        finally:
            _live = None


class Step:
    """Progress of one step: call `advance` when units of work finish, and `note` to show text beside the bar."""

    def __init__(self, name: str, total: int) -> None:
        self._name, self._total, self._started, self._note = name, total, time.monotonic(), ""
        self._done, self._last_print = 0, self._started
        self._reached: dict[Hashable, int] = {}
        # (units done, time), starting with the first finished unit: model loading must not lower the throughput
        self._marks: deque[tuple[int, float]] = deque()
        self._task: TaskID | None = _live.add_task(name, total=total, note="") if _live else None

    def advance(self, count: int = 1) -> None:
        """Add `count` finished units."""
        with _lock:
            self._advance(count)

    def reach(self, group: Hashable, count: int) -> None:
        """Set the number of finished units of a group. Units repeated after a failure are counted once."""
        with _lock:
            before = self._reached.get(group, 0)
            self._reached[group] = max(before, count)
            self._advance(max(0, count - before))

    def _advance(self, count: int) -> None:
        if not count:
            return
        self._done += count
        if _live and self._task is not None:
            _live.advance(self._task, count)
        else:
            self._print_line(time.monotonic())

    def note(self, text: str) -> None:
        """Set the text beside the bar."""
        self._note = text
        if _live and self._task is not None:
            _live.update(self._task, note=text)

    def share(self) -> float:
        """Return the finished share, from 0 to 1."""
        return min(1.0, self._done / self._total) if self._total else 1.0

    def _print_line(self, now: float) -> None:
        """Print a progress line, unless the last one is less than `QUIET` seconds old."""
        if not self._marks:
            self._marks.append((self._done, now))
        while len(self._marks) > 1 and now - self._marks[1][1] >= RECENT:
            self._marks.popleft()
        done, began = self._marks[0]
        if now - self._last_print < QUIET or self._done == done:
            return
        self._last_print = now
        self._marks.append((self._done, now))
        rate_and_eta = pace((self._done - done) / (now - began), max(0, self._total - self._done))
        console.print(f"{self._name:<22} {self._done:>4} of {self._total}, {rate_and_eta}", soft_wrap=True)

    def end(self) -> None:
        """Mark the step as finished."""
        if _live and self._task is not None:
            _live.update(self._task, completed=self._total)
            _live.stop_task(self._task)
        else:
            seconds = time.monotonic() - self._started
            line = f"{self._name:<22} {self._done:>4} in {seconds:6.1f} s  {self._note}"
            console.print(line.rstrip(), soft_wrap=True)


@contextmanager
def step(name: str, total: int) -> Iterator[Step]:
    """Yield a progress step of `total` units, and end it on exit."""
    current = Step(name, total)
    try:
        with shown_in_dashboard(name, current.share):
            yield current
    finally:
        current.end()


@contextmanager
def waiting(name: str) -> Iterator[Callable[[str], None]]:
    """Show a step that waits; yield a function that sets the text that says what for."""
    shown = ""

    def note(text: str) -> None:
        nonlocal shown
        if text != shown and not _live:
            console.print(f"{name:<22} {text}", soft_wrap=True)
        shown = text
        current.note(text)

    current = Step(name, 1)
    try:
        yield note
    finally:
        current.note("")
        current.advance()
        current.end()


class _Pace(ProgressColumn):
    """Column with throughput and remaining time of a task."""

    def render(self, task: Task) -> Text:
        running = task.speed and not task.finished
        return Text(pace(task.speed or 0.0, int(task.remaining or 0)) if running else "", style="cyan")


def pace(speed: float, left: int) -> str:
    """Format throughput (`speed`, units per second) and the time for `left` more units: `3.1/s, 1.1 h left`."""
    for unit, length in (("s", 1), ("min", 60), ("h", 3600)):
        if speed * length >= 1 or unit == "h":
            return f"{speed * length:.1f}/{unit}, {duration(left / speed)} left"
    raise AssertionError("unreachable: the unit h always returns")


def silence_libraries() -> None:
    """Disable the progress bars of diffusers and transformers, which would clash with ours."""
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    diffusers_logging.disable_progress_bar()
    diffusers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
