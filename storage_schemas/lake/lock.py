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

from opendimo.storage_schemas.lake.store import LocalStore, ObjectStore, Store

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
    held = FileLock(str(path), fallback_to_soft=False)  # a soft one outlives its holder
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
        first, seen, since, noticed = "", "", time.monotonic(), False
        while not self._take(seen, since):
            content, current = self._store.read_tagged(self._name) or (b"{}", "")
            if current != seen:
                first, seen, since = first or current, current, time.monotonic()
            holder = json.loads(content).get("holder", "somebody")
            if not wait and current != first:  # it was renewed: its holder lives
                raise Held(f"{self._name} is held by {holder}")
            if not noticed:
                log.info("waiting for %s, which %s holds", self._name, holder)
                noticed = True
            time.sleep(min(1.0, LEASE_SECONDS / 10) * random.uniform(0.5, 1.0))
        self._renewed = time.monotonic()
        self._heart = threading.Thread(target=self._beat, daemon=True, name=f"lease {self._name}")
        self._heart.start()

    def _take(self, seen: str, since: float) -> bool:
        """Take the lease where it is free, or still as it was `seen` its own number of seconds ago."""
        found = self._store.read_tagged(self._name)
        if found is None:
            return self._write(None)
        state = json.loads(found[0])
        expired = found[1] == seen and time.monotonic() - since > state["seconds"]
        return (state["free"] or expired) and self._write(found[1])

    def _write(self, tag: str | None, free: bool = False) -> bool:
        """Replace the lease of entity tag `tag` (None: there is none) by our own; whether it is ours now.

        A refusal may mean that our own write came through and its answer did not: then the content is ours.
        """
        state = {"holder": self._holder, "free": free, "seconds": LEASE_SECONDS, "nonce": uuid.uuid4().hex}
        content = json.dumps(state).encode()
        name, store = self._name, self._store
        written = store.create_tagged(name, content) if tag is None else store.swap(name, content, tag)
        if written is None:
            found = store.read_tagged(name)
            ours = found is not None and json.loads(found[0])["holder"] == self._holder
            written = found[1] if found is not None and ours else None
        self._tag = written or self._tag
        return written is not None

    def check(self) -> None:
        """Renew now. Raises `LockLost` where that cannot be done any more."""
        with self._writing:
            if self._over.is_set() or not self._write(self._tag):
                self._over.set()
                raise LockLost(
                    f"{self._name} was taken over while this process stood still; nothing was lost: run the same again"
                )
            self._renewed = time.monotonic()

    def release(self) -> None:
        with self._writing:
            if not self._over.is_set():
                self._over.set()
                try:
                    self._write(self._tag, free=True)
                except Exception:  # it ends by itself, and what was done under it is done
                    log.warning("could not free %s", self._name, exc_info=True)
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
