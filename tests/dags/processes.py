"""Processes of this machine as /proc tells of them: whose children they are, and their end."""

import os
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple


class Process(NamedTuple):
    """A process, told from a later one of the same number by when it began."""

    pid: int
    started: str

    @property
    def command(self) -> str:
        """Its command line; empty where it is gone."""
        try:
            return Path(f"/proc/{self.pid}/cmdline").read_text(errors="replace").replace("\0", " ")
        except OSError:
            return ""

    @property
    def alive(self) -> bool:
        """Whether it runs still."""
        return (found := _look(self.pid)) is not None and found[0] == self

    def kill(self) -> bool:
        """SIGKILL it; whether it was there."""
        with suppress(ProcessLookupError):
            if self.alive:
                os.kill(self.pid, signal.SIGKILL)
                return True
        return False


def descendants(pid: int) -> list[Process]:
    """All children of a process, theirs, and so on; parents first."""
    children: dict[int, list[Process]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and (found := _look(int(entry.name))) is not None:
            children.setdefault(found[1], []).append(found[0])
    below = list(children.get(pid, ()))
    for process in below:
        below += children.get(process.pid, ())
    return below


def wait_for_end(processes: set[Process], seconds: float) -> set[Process]:
    """Those that are still there after so long."""
    deadline = time.monotonic() + seconds
    while (left := {process for process in processes if process.alive}) and time.monotonic() < deadline:
        time.sleep(0.1)
    return left


def _look(pid: int) -> tuple[Process, int] | None:
    """A process and the number of its parent; None where it is over."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else (Process(pid, fields[19]), int(fields[1]))
