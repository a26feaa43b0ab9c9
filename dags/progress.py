"""What a person sees while flows run: a bar per stage on a terminal, a line per stage elsewhere."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

console = Console(stderr=True, highlight=False)
_live: Progress | None = None
_lock = threading.Lock()


@contextmanager
def display() -> Iterator[None]:
    """Show the bars of all steps inside; without a terminal, one line as each step ends."""
    global _live  # noqa: PLW0603  one terminal, one display
    if not console.is_terminal or _live is not None:
        yield
        return
    columns = TextColumn("{task.description:<22}"), BarColumn(28), MofNCompleteColumn(), TimeElapsedColumn()
    with Progress(*columns, TextColumn("[dim]{task.fields[note]}"), console=console) as live:
        _live = live
        try:
            yield
        finally:
            _live = None


class Step:
    """One step of the work: `advance` as parts of it are done, `note` to say something beside the bar."""

    def __init__(self, name: str, total: int) -> None:
        self._name, self._total, self._started, self._note = name, total, time.monotonic(), ""
        self._task: TaskID | None = _live.add_task(name, total=total, note="") if _live else None

    def advance(self, count: int = 1) -> None:
        """`count` more parts are done."""
        if _live and self._task is not None:
            with _lock:
                _live.advance(self._task, count)

    def expect(self, count: int) -> None:
        """`count` more parts belong to it."""
        self._total += count
        if _live and self._task is not None:
            _live.update(self._task, total=self._total)

    def note(self, text: str) -> None:
        """Words beside the bar."""
        self._note = text
        if _live and self._task is not None:
            _live.update(self._task, note=text)

    def end(self) -> None:
        """The step is over."""
        if _live and self._task is not None:
            _live.update(self._task, completed=self._total)
            _live.stop_task(self._task)
        else:
            seconds = time.monotonic() - self._started
            line = f"{self._name:<22} {self._total:>4} in {seconds:6.1f} s  {self._note}"
            console.print(line.rstrip(), soft_wrap=True)


@contextmanager
def step(name: str, total: int) -> Iterator[Step]:
    """A step of `total` parts."""
    current = Step(name, total)
    try:
        yield current
    finally:
        current.end()


def silence_libraries() -> None:
    """No bars of diffusers and transformers beside ours."""
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    diffusers_logging.disable_progress_bar()
    diffusers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
