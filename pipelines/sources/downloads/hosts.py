"""Per-host rate limits, shared by all processes of a machine.

They cap simultaneous connections and requests per second, and stop requests while a host's `Retry-After` pause lasts.
"""

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

LONGEST_PAUSE = 24 * 3600.0  # seconds: longer pauses are shortened to this
POLL = 0.05  # seconds between checks for a free connection


@dataclass
class _State:
    """Earliest start of the next request, and end of the host's pause, in seconds since 1970."""

    next_start: float = 0.0
    paused_until: float = 0.0


@contextmanager
def turn(host: str, config: SourcesConfig, deadline: float) -> Iterator[None]:
    """Wait until a request to the host may start, and hold one of its connections meanwhile and during the request.

    `deadline`: on the monotonic clock. Raises `TransientError` (paused), which does not count as an attempt, if the
    host's pause is longer than `max_pause_s` or the request could not start before the deadline.
    """
    lock = _free_connection(host, config.host_connections, deadline)
    try:
        _wait(host, config, deadline)
        yield
    finally:
        lock.release()


def pause(host: str, seconds: float) -> int:
    """Block requests to the host for `seconds`; return the end of the pause in nanoseconds since 1970."""
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
    """Reserve the host's next start time and wait for it; repeat if the host asked for a pause meanwhile."""
    while True:
        now = time.time()
        with _state(host) as state:
            if state.paused_until - now > config.max_pause_s:
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
    text = f"{host}: rate limited: the server asked for a pause, or many files are queued for it; will be retried"
    return TransientError(text, reason=PAUSED, not_before=int(until * 1e9))


@contextmanager
def _state(host: str) -> Iterator[_State]:
    """Lock and yield the host's state; store it if it was changed."""
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
