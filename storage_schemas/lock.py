"""Locks of a lake: one holder at a time on all machines; a lock whose holder died comes free.

On a local folder the system's file lock does it, which ends with its holder. On an object store a holder renews a
lease: who waits and sees no renewal for `LEASE_SECONDS` of its own clock takes the lease over (clocks of two machines
are never compared), and the old holder, should it only have slept, learns so before its next write.
"""

import json
import logging
import os
import random
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from filelock import FileLock, Timeout

from storage_schemas.store import LocalStore, ObjectStore, Store

LEASE_SECONDS = float(os.environ.get("OPENDIMO_LEASE_SECONDS", "30"))
NOTICE_SECONDS = 5.0

Check = Callable[[], None]
"""Raises `LockLost` where the lock was taken over; call it right before what must not happen twice."""

log = logging.getLogger(__name__)


class Held(RuntimeError):
    """Somebody else has the lock."""


class LockLost(RuntimeError):
    """The lock was taken over because this process did not renew it in time."""


@contextmanager
def lock(store: Store, name: str, wait: bool = True) -> Iterator[Check]:
    """Hold the lock `name` of a lake; yields a `Check`. Raises `Held` where it is taken and `wait` is false."""
    match store:
        case LocalStore():
            with _file_lock(store, name, wait):
                yield lambda: None
        case ObjectStore():
            lease = _Lease(store, f"locks/{name}.json")
            lease.acquire(wait)
            try:
                yield lease.check
            finally:
                lease.release()
        case _:
            raise TypeError(f"no locks for {type(store).__name__}")


@contextmanager
def _file_lock(store: LocalStore, name: str, wait: bool) -> Iterator[None]:
    path = store.root / "locks" / f"{name}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    held = FileLock(str(path))
    try:
        held.acquire(timeout=NOTICE_SECONDS if wait else 0)
    except Timeout:
        if not wait:
            raise Held(f"{path} is held by another process") from None
        log.info("waiting for another process to release %s", path)
        held.acquire()
    try:
        yield
    finally:
        held.release()


class _Lease:
    """An object that its holder rewrites all the time; every rewrite names the version it replaces."""

    def __init__(self, store: ObjectStore, name: str) -> None:
        self._store, self._name = store, name
        self._holder = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
        self._tag = ""
        self._renewed = 0.0
        self._writing = threading.Lock()
        self._over = threading.Event()
        self._heart: threading.Thread | None = None

    def acquire(self, wait: bool) -> None:
        seen, since = "", time.monotonic()
        noticed = False
        while True:
            found = self._store.read_tagged(self._name)
            if found is None:
                tag = self._store.create_tagged(self._name, self._content(free=False))
            else:
                content, current = found
                state = json.loads(content)
                if current != seen:
                    seen, since = current, time.monotonic()
                expired = time.monotonic() - since > LEASE_SECONDS
                free = state["free"] or expired
                tag = self._store.swap(self._name, self._content(free=False), current) if free else None
                if tag is None and not free:
                    if not wait:
                        raise Held(f"{self._name} is held by {state['holder']}")
                    if not noticed:
                        log.info("waiting for %s, which %s holds", self._name, state["holder"])
                        noticed = True
            if tag is not None:
                self._tag, self._renewed = tag, time.monotonic()
                self._heart = threading.Thread(target=self._beat, daemon=True, name=f"lease {self._name}")
                self._heart.start()
                return
            time.sleep(min(1.0, LEASE_SECONDS / 10) * random.uniform(0.5, 1.0))

    def check(self) -> None:
        """Renew now. Raises `LockLost` where that cannot be done any more."""
        with self._writing:
            tag = None if self._over.is_set() else self._store.swap(self._name, self._content(free=False), self._tag)
            if tag is None:
                self._over.set()
                raise LockLost(
                    f"{self._name} was taken over while this process stood still; nothing was lost: run the same again"
                )
            self._tag, self._renewed = tag, time.monotonic()

    def release(self) -> None:
        with self._writing:
            if not self._over.is_set():
                self._over.set()
                self._store.swap(self._name, self._content(free=True), self._tag)
        if self._heart is not None:
            self._heart.join()

    def _beat(self) -> None:
        while not self._over.wait(LEASE_SECONDS / 4):
            try:
                self.check()
            except LockLost:
                return
            except Exception:  # the network: try again until the lease is over
                log.warning("could not renew %s", self._name, exc_info=True)
                if time.monotonic() - self._renewed > LEASE_SECONDS:
                    self._over.set()

    def _content(self, free: bool) -> bytes:
        return json.dumps({"holder": self._holder, "free": free, "nonce": uuid.uuid4().hex}).encode()
