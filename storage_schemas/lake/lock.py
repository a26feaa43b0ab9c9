"""Lock a lake: a lock has one holder at a time across all machines, and becomes free if its holder dies.

In a local folder a lock is a file lock, which the system releases when its holder exits. On an object store it is a
lease, which the holder renews. A waiting process that sees no renewal for `LEASE_SECONDS` on its own clock takes the
lease over (clocks of two machines are never compared). If the old holder was only suspended, its next `Check` raises
`LockLost` before it writes.
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
"""Raises `LockLost` if the lock was taken over. Call it immediately before any write that must not happen twice."""

log = logging.getLogger(__name__)


class Held(RuntimeError):
    """Another process holds the lock."""


class LockLost(RuntimeError):
    """The lock was taken over because this process did not renew it in time."""


@contextmanager
def lock(store: Store, name: str, wait: bool = True) -> Iterator[Check]:
    """Hold the lock `name` of a lake and yield a `Check`. Raises `Held` if it is taken and `wait` is false."""
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
    held = FileLock(str(path), fallback_to_soft=False)  # a soft lock would outlive its holder
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
    """A lease: an object that its holder rewrites periodically, each time on condition of the previous entity tag."""

    def __init__(self, store: ObjectStore, name: str) -> None:
        self._store, self._name = store, name
        self._holder = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
        self._tag = ""
        self._renewed = 0.0
        self._writing = threading.Lock()
        self._ended = threading.Event()
        self._renewer: threading.Thread | None = None

    def acquire(self, wait: bool) -> None:
        first_tag, last_tag, since, logged = "", "", time.monotonic(), False
        while not self._take(last_tag, since):
            content, tag = self._store.read_tagged(self._name) or (b"{}", "")
            if tag != last_tag:
                first_tag, last_tag, since = first_tag or tag, tag, time.monotonic()
            holder = json.loads(content).get("holder", "another process")
            if not wait and tag != first_tag:  # it was renewed, so its holder is alive
                raise Held(f"{self._name} is held by {holder}")
            if not logged:
                log.info("waiting for %s, held by %s", self._name, holder)
                logged = True
            time.sleep(min(1.0, LEASE_SECONDS / 10) * random.uniform(0.5, 1.0))
        self._renewed = time.monotonic()
        self._renewer = threading.Thread(target=self._renew_periodically, daemon=True, name=f"lease {self._name}")
        self._renewer.start()

    def _take(self, last_tag: str, since: float) -> bool:
        """Take the lease if it is free or expired: its entity tag has been `last_tag` since the time `since`, for
        longer than the lease lasts. Return whether this process holds it now."""
        tagged = self._store.read_tagged(self._name)
        if tagged is None:
            return self._write(None)
        state = json.loads(tagged[0])
        expired = tagged[1] == last_tag and time.monotonic() - since > state["seconds"]
        return (state["free"] or expired) and self._write(tagged[1])

    def _write(self, tag: str | None, free: bool = False) -> bool:
        """Replace the lease with entity tag `tag` (None: there is no lease) by our own; return whether we hold it now.

        If the store refuses the write, check the content: an earlier attempt may have succeeded and its response been
        lost.
        """
        state = {"holder": self._holder, "free": free, "seconds": LEASE_SECONDS, "nonce": uuid.uuid4().hex}
        content = json.dumps(state).encode()
        name, store = self._name, self._store
        written = store.create_tagged(name, content) if tag is None else store.swap(name, content, tag)
        if written is None:
            tagged = store.read_tagged(name)
            ours = tagged is not None and json.loads(tagged[0])["holder"] == self._holder
            written = tagged[1] if tagged is not None and ours else None
        self._tag = written or self._tag
        return written is not None

    def check(self) -> None:
        """Renew the lease now. Raises `LockLost` if another process took it over."""
        with self._writing:
            if self._ended.is_set() or not self._write(self._tag):
                self._ended.set()
                raise LockLost(
                    f"{self._name} was taken over because this process did not renew it in time; "
                    "no data was lost: run the same command again"
                )
            self._renewed = time.monotonic()

    def release(self) -> None:
        with self._writing:
            if not self._ended.is_set():
                self._ended.set()
                try:
                    self._write(self._tag, free=True)
                except Exception:  # the lease expires by itself, and the work done under it is complete
                    log.warning("could not release %s", self._name, exc_info=True)
        if self._renewer is not None:
            self._renewer.join()

    def _renew_periodically(self) -> None:
        while not self._ended.wait(LEASE_SECONDS / 4):
            try:
                self.check()
            except LockLost:
                return
            except Exception:  # for example a network error: retry until the lease expires
                log.warning("could not renew %s", self._name, exc_info=True)
                if time.monotonic() - self._renewed > LEASE_SECONDS:
                    self._ended.set()
