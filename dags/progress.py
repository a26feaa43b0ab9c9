"""What a person sees while flows run: a bar per stage on a terminal, a line a minute elsewhere. Both say how fast it
goes and how long it still takes."""

import threading
import time
from collections import deque
from collections.abc import Hashable, Iterator
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

from opendimo.dags.show import duration

RECENT = 600.0  # seconds that count for the rate: pieces of work differ, and what was long ago says little
QUIET = 60.0  # seconds between two lines where there is no terminal

console = Console(stderr=True, highlight=False)
_live: Progress | None = None
_lock = threading.Lock()


@contextmanager
def display() -> Iterator[None]:
    """Show the bars of all steps inside; without a terminal, a line every minute and one as each step ends."""
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
    """One step of the work: `advance` as parts of it are done, `note` to say something beside the bar."""

    def __init__(self, name: str, total: int) -> None:
        self._name, self._total, self._started, self._note = name, total, time.monotonic(), ""
        self._done, self._said = 0, self._started
        self._reached: dict[Hashable, int] = {}
        self._marks: deque[tuple[int, float]] = deque()  # parts and when, from the first one on: loading is no work
        self._task: TaskID | None = _live.add_task(name, total=total, note="") if _live else None

    def advance(self, count: int = 1) -> None:
        """`count` more parts are done."""
        with _lock:
            self._advance(count)

    def reach(self, group: Hashable, count: int) -> None:
        """`count` parts of a group are done; those done again after a failure count once."""
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
            self._say(time.monotonic())

    def note(self, text: str) -> None:
        """Words beside the bar."""
        self._note = text
        if _live and self._task is not None:
            _live.update(self._task, note=text)

    def _say(self, now: float) -> None:
        """A line, if there was none for a while."""
        if not self._marks:
            self._marks.append((self._done, now))
        while len(self._marks) > 1 and now - self._marks[1][1] >= RECENT:
            self._marks.popleft()
        done, began = self._marks[0]
        if now - self._said < QUIET or self._done == done:
            return
        self._said = now
        self._marks.append((self._done, now))
        how_fast = pace((self._done - done) / (now - began), max(0, self._total - self._done))
        console.print(f"{self._name:<22} {self._done:>4} of {self._total}, {how_fast}", soft_wrap=True)

    def end(self) -> None:
        """The step is over."""
        if _live and self._task is not None:
            _live.update(self._task, completed=self._total)
            _live.stop_task(self._task)
        else:
            seconds = time.monotonic() - self._started
            line = f"{self._name:<22} {self._done:>4} in {seconds:6.1f} s  {self._note}"
            console.print(line.rstrip(), soft_wrap=True)


@contextmanager
def step(name: str, total: int) -> Iterator[Step]:
    """A step of `total` parts."""
    current = Step(name, total)
    try:
        yield current
    finally:
        current.end()


class _Pace(ProgressColumn):
    """How fast a task goes, and how long it still takes."""

    def render(self, task: Task) -> Text:
        going = task.speed and not task.finished
        return Text(pace(task.speed or 0.0, int(task.remaining or 0)) if going else "", style="cyan")


def pace(speed: float, left: int) -> str:
    """`3.1/s, 1.1 h left` of so many parts a second."""
    for unit, length in (("s", 1), ("min", 60), ("h", 3600)):
        if speed * length >= 1 or unit == "h":
            return f"{speed * length:.1f}/{unit}, {duration(left / speed)} left"
    raise AssertionError("there is a last unit")


def silence_libraries() -> None:
    """No bars of diffusers and transformers beside ours."""
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    diffusers_logging.disable_progress_bar()
    diffusers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
