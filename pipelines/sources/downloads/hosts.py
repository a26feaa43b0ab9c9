"""Budgets of hosts, shared by all processes of a machine: so many connections at once, so many requests a second, and
none at all while the host asked for a pause."""

import json
import os
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from opendimo.pipelines.engine.stage import PAUSED, TransientError
from opendimo.pipelines.sources.config import SourcesConfig
from opendimo.storage_schemas.ids import stable_id
from opendimo.storage_schemas.lake.files import write_bytes

LONGEST_PAUSE = 24 * 3600.0  # seconds: no server decides about more
POLL = 0.05


@dataclass
class _State:
    """When the next request may start, and until when the host wants none: seconds since 1970."""

    next_start: float = 0.0
    paused_until: float = 0.0


@contextmanager
def turn(host: str, config: SourcesConfig, deadline: float) -> Iterator[None]:
    """Hold one of the host's connections, from when a request may start.

    `deadline` is of the monotonic clock. Raises `TransientError` (paused), which is no attempt, where the host's pause
    is longer than `patience` or no turn comes before the deadline.
    """
    lock = _free_connection(host, config.host_connections, deadline)
    try:
        _wait(host, config, deadline)
        yield
    finally:
        lock.release()


def pause(host: str, seconds: float) -> int:
    """Let nobody ask the host for so long; return until when, in nanoseconds since 1970."""
    until = time.time() + min(max(seconds, 0.0), LONGEST_PAUSE)
    with _state(host) as state:
        state.paused_until = max(state.paused_until, until)
    return int(until * 1e9)


def _free_connection(host: str, connections: int, deadline: float) -> FileLock:
    numbers = random.sample(range(connections), connections)
    while True:
        for number in numbers:
            lock = FileLock(f"{_path(host)}.{number}.lock", fallback_to_soft=False)
            try:
                lock.acquire(timeout=0)
                return lock
            except Timeout:
                continue
        _sleep(host, POLL * random.uniform(0.5, 1.5), deadline)


def _wait(host: str, config: SourcesConfig, deadline: float) -> None:
    """Take the next start of the host and wait for it; and again, where it asked for a pause meanwhile."""
    while True:
        now = time.time()
        with _state(host) as state:
            if state.paused_until - now > config.patience:
                raise _paused(host, state.paused_until)
            start = max(now, state.next_start, state.paused_until)
            if config.host_rate:
                state.next_start = start + 1 / config.host_rate
        _sleep(host, start - now, deadline)
        if _read(_path(host)).paused_until <= time.time():
            return


def _sleep(host: str, seconds: float, deadline: float) -> None:
    if seconds > deadline - time.monotonic():
        raise _paused(host, time.time() + seconds)
    time.sleep(max(0.0, seconds))


def _paused(host: str, until: float) -> TransientError:
    text = f"{host}: it is not this file's turn yet: the server asked for a pause, or many files wait for it"
    return TransientError(text, reason=PAUSED, not_before=int(until * 1e9))


@contextmanager
def _state(host: str) -> Iterator[_State]:
    """The host's state, stored again where it was changed."""
    path = _path(host)
    with FileLock(f"{path}.lock", fallback_to_soft=False):
        state = _read(path)
        before = asdict(state)
        yield state
        if asdict(state) != before:
            write_bytes(Path(path), json.dumps(asdict(state)).encode())


def _read(path: str) -> _State:
    try:
        return _State(**json.loads(Path(path).read_text()))
    except (OSError, ValueError, TypeError):
        return _State()


def _path(host: str) -> str:
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "opendimo" / "hosts"
    root.mkdir(parents=True, exist_ok=True, mode=0o700)
    return str(root / stable_id("host", host)[:16])
