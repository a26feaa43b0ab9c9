"""Kill a training process while a launcher trains in it."""

import os
import signal
from collections.abc import Iterable


def processes(lines: Iterable[str]) -> list[int]:
    """Return the ids of the processes that log lines name."""
    return [int(line.split()[3]) for line in lines if line.startswith("training in process")]


class Killer:
    """Called with the progress of a run: kills the first process once, after `after` steps; keeps the log lines."""

    def __init__(self, after: int) -> None:
        self.lines: list[str] = []
        self.killed: int | None = None
        self._after, self._steps = after, 0

    def __call__(self, done: int, _loss: float | None, new_lines: list[tuple[int, str]]) -> None:
        self._steps += done
        self.lines += [text for _, text in new_lines]
        if self._steps >= self._after and self.killed is None:
            self.killed = processes(self.lines)[0]
            os.kill(self.killed, signal.SIGKILL)
