"""A lock has one holder at a time, and becomes free if its holder dies."""

import multiprocessing
import os
import signal
import threading
import time
from multiprocessing.synchronize import Event

import pytest

from opendimo.storage_schemas.lake import lock as locks
from opendimo.storage_schemas.lake.lake import Lake
from opendimo.storage_schemas.lake.lock import Held, LockLost
from opendimo.storage_schemas.lake.store import ObjectStore

SPAWN = multiprocessing.get_context("spawn")


@pytest.fixture(autouse=True)
def short_leases(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENDIMO_LEASE_SECONDS", "2")  # for child processes
    monkeypatch.setattr(locks, "LEASE_SECONDS", 2.0)


def hold(home: str, holding: Event) -> None:
    with Lake(home).lock("x"):
        holding.set()
        time.sleep(600)


def count(home: str, times: int) -> None:
    lake = Lake(home)
    for _ in range(times):
        with lake.lock("x"):
            now = int(lake.store.read("count") or b"0")
            time.sleep(0.005)
            lake.store.write("count", str(now + 1).encode())


def holder(home: str) -> "multiprocessing.process.BaseProcess":
    Lake(home)
    holding = SPAWN.Event()
    process = SPAWN.Process(target=hold, args=(home, holding), daemon=True)
    process.start()
    assert holding.wait(60)
    return process


def test_who_does_not_wait_is_told(home: str) -> None:
    process = holder(home)
    try:
        time.sleep(3)  # longer than a lease, which the holder renews
        with pytest.raises(Held, match="held by"), Lake(home).lock("x", wait=False):
            pass
        with Lake(home).lock("other", wait=False):
            pass
    finally:
        process.kill()


def test_the_lock_of_a_dead_holder_comes_free(home: str) -> None:
    process = holder(home)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    with Lake(home).lock("x") as check:
        check()


def test_who_does_not_wait_gets_the_lock_of_a_dead_holder(home: str) -> None:
    process = holder(home)
    process.kill()
    process.join()
    with Lake(home).lock("x", wait=False) as check:
        check()


def test_a_renewal_of_which_the_answer_was_lost_is_a_renewal(s3: str, monkeypatch: pytest.MonkeyPatch) -> None:
    swap = ObjectStore.swap

    def answer_lost(self: ObjectStore, name: str, data: bytes, tag: str) -> str | None:
        swap(self, name, data, tag)
        return None

    with Lake(s3).lock("x") as check:
        with monkeypatch.context() as patched:
            patched.setattr(ObjectStore, "swap", answer_lost)
            check()
        check()


def test_work_is_done_also_where_its_lock_cannot_be_freed(s3: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: object) -> None:
        raise ConnectionError("no network")

    with monkeypatch.context() as patched, Lake(s3).lock("x"):
        patched.setattr(ObjectStore, "swap", offline)
    with Lake(s3).lock("x"):
        pass


def test_a_lock_comes_free_after_an_error(home: str) -> None:
    lake = Lake(home)
    with pytest.raises(ZeroDivisionError), lake.lock("x"):
        _ = 1 / 0
    with lake.lock("x", wait=False):
        pass


def test_one_at_a_time(home: str) -> None:
    lake = Lake(home)
    processes = [SPAWN.Process(target=count, args=(home, 5)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert lake.store.read("count") == b"20"


def test_who_slept_through_its_lease_learns_it_before_the_next_write(s3: str, monkeypatch: pytest.MonkeyPatch) -> None:
    lake = Lake(s3)
    asleep = threading.Event()
    swap = ObjectStore.swap

    def frozen(self: ObjectStore, name: str, data: bytes, tag: str) -> str | None:
        if threading.current_thread().name.startswith("lease"):
            asleep.wait()  # the first holder cannot renew its lease
        return swap(self, name, data, tag)

    with pytest.raises(LockLost, match="taken over"), lake.lock("x") as check:
        with monkeypatch.context() as patched:
            patched.setattr(ObjectStore, "swap", frozen)
            time.sleep(0.6)  # its next renewal is in progress
            with Lake(s3).lock("x") as other:
                other()
        asleep.set()
        check()
