"""Inspect processes through /proc: descendants, whether they are alive, and waiting for their end."""

import os
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple


class Process(NamedTuple):
    """A process, identified by its pid and start time, because pids are reused."""

    pid: int
    started: str

    @property
    def command(self) -> str:
        """Return the command line; empty if the process has ended."""
        try:
            return Path(f"/proc/{self.pid}/cmdline").read_text(errors="replace").replace("\0", " ")
        except OSError:
            return ""

    @property
    def alive(self) -> bool:
        """Return whether the process is running."""
        return (entry := _read_stat(self.pid)) is not None and entry[0] == self

    def kill(self) -> bool:
        """Send SIGKILL; return whether the process was alive."""
        with suppress(ProcessLookupError):
            if self.alive:
                os.kill(self.pid, signal.SIGKILL)
                return True
        return False


def descendants(pid: int) -> list[Process]:
    """Return all descendants of a process, parents before their children."""
    children: dict[int, list[Process]] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal() and (entry := _read_stat(int(folder.name))) is not None:
            children.setdefault(entry[1], []).append(entry[0])
    result = list(children.get(pid, ()))
    for process in result:
        result += children.get(process.pid, ())
    return result


def wait_for_end(processes: set[Process], seconds: float) -> set[Process]:
    """Wait up to `seconds` for processes to end; return those that are still alive."""
    deadline = time.monotonic() + seconds
    while (alive := {process for process in processes if process.alive}) and time.monotonic() < deadline:
        time.sleep(0.1)
    return alive


def _read_stat(pid: int) -> tuple[Process, int] | None:
    """Return a process and the pid of its parent; None if it has ended or is a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else (Process(pid, fields[19]), int(fields[1]))
