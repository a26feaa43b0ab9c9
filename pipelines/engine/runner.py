"""Run a stage over shards on Ray: a pool of actors, each with its own copy of the stage.

Only paths and ids are sent between processes, never frames. A worker stages its shard itself; committing happens
elsewhere. If a worker dies, or is killed because a piece of work exceeded the time limit, its shard is retried in a new
worker. A piece of work that causes this `DEATHS` times is rejected, and the rest of the shard continues.
"""

import logging
import math
import os
import queue
import secrets
import signal
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from opendimo.pipelines.engine.planning import Shard, stage_outcome
from opendimo.pipelines.engine.stage import Outcome, Reject, Stage, Work
from opendimo.storage_schemas.lake.lake import Lake
from opendimo.storage_schemas.lake.runs import staged
from opendimo.storage_schemas.log_buffer import LogBuffer

logger = logging.getLogger(__name__)

LOGGED = ("opendimo",)  # loggers whose records workers send to the driver
STARTS = 3  # attempts to start Ray
STAGING = 3600.0  # time limit of staging a shard, seconds
DEATHS = 3  # reject a piece of work after this many worker failures; fewer may have another cause

SLACK = float(os.environ.get("OPENDIMO_TIME_LIMITS", "1"))  # factor of all time limits
DIED = f"the worker process died {DEATHS} times on it: the file may be broken or too large for memory"
LATE = (
    "given up after {} attempts: the last took longer than the time limit of {:g} s (OPENDIMO_TIME_LIMITS=2 doubles it)"
)

LOCAL_RAY = {"address": "local", "include_dashboard": False, "object_store_memory": 256 << 20}
"""Options of a Ray cluster of this machine."""
OnProgress = Callable[[int, list[tuple[int, str]]], None]
"""Called with the number of finished pieces of the shard and the worker's new log lines (level, text).

After a worker died the number restarts at 1.
"""


@contextmanager
def ray_session(address: str | None = None, cpus: int | None = None) -> Iterator[None]:
    """Connect to the Ray cluster at `address`, or start a local one that ends with the context."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if address is None:
        set_ray_token()
    if address is None or address.startswith("127.0.0.1:"):
        use_loopback()
    import ray  # reads the token's environment when imported, so not earlier

    if ray.is_initialized():  # nested session: the outer one owns the connection
        yield
        return
    _init_ray({"address": address} if address else LOCAL_RAY | {"num_cpus": cpus or os.cpu_count()})
    try:
        yield
    finally:
        ray.shutdown()


def _init_ray(options: dict[str, Any]) -> None:
    """Start Ray or connect to it; retry if it times out, as its agents may on a busy machine (Ray issue 65983)."""
    import ray

    before = signal.getsignal(signal.SIGTERM) or signal.SIG_DFL
    for starts in range(1, STARTS + 1):
        try:
            ray.init(**options, log_to_driver=False, logging_level=logging.ERROR)
            if threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGTERM, before)  # Ray replaces the handler by one that exits with 15
            return
        except Exception as error:  # Ray raises no more specific class
            ray.shutdown()
            if "timed out during startup" not in str(error):
                raise
            if starts == STARTS:
                raise RuntimeError(
                    f"Ray did not start in {STARTS} attempts because the machine is too busy; try again later"
                ) from error
            logger.warning("Ray timed out while starting; starting it again")


def is_ray_lost() -> bool:
    """Return whether this process is connected to a Ray cluster whose node on this machine has died.

    Ray itself then waits forever. False if the cluster does not answer.
    """
    ray = sys.modules.get("ray")
    if ray is None or not ray.is_initialized():
        return False
    try:
        own = ray.get_runtime_context().get_node_id()
        return not any(node["NodeID"] == own and node["Alive"] for node in ray.nodes())
    except Exception:  # Ray is being shut down, and raises no more specific class
        return False


class PoolClosed(Exception):
    """The pool was closed while a shard was being processed: its run was interrupted."""


class Pool:
    """A pool of workers for one stage. Use it as a context manager; `run_shard` is thread-safe."""

    def __init__(self, stage: Stage, lake: Lake, workers: int) -> None:
        self._stage, self._lake = stage, lake
        self._started: list[Any] = []
        self._closed = threading.Event()
        self._free: queue.Queue[Any] = queue.Queue()
        for _ in range(workers):
            self._free.put(None)  # None: not started; workers start on first use

    def __enter__(self) -> "Pool":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Kill all workers, also those that are busy: then their shards end with `PoolClosed`."""
        import ray

        self._closed.set()
        for worker in self._started:
            ray.kill(worker)

    def _worker(self) -> Any:
        """Start a worker. Raises `PoolClosed` if the pool is closed."""
        worker = _start_worker(self._stage)
        self._started.append(worker)
        if self._closed.is_set():  # perhaps meanwhile
            self.close()
            raise PoolClosed
        return worker

    def run_shard(self, shard: Shard, on_progress: OnProgress) -> dict[str, Any]:
        """Run a shard in one worker, which also stages the results; return the shard's manifest.

        Raises Ray's error if staging fails more than `DEATHS` times, and `PoolClosed` if the pool is closed.
        """
        import ray
        from ray.exceptions import GetTimeoutError, OutOfMemoryError, RayActorError

        if (manifest := staged(self._lake, shard.run_id, shard.number)) is not None:
            on_progress(len(shard.works), [])
            return manifest
        worker, limit = self._free.get(), SLACK * self._stage.needs.timeout_s
        failures: defaultdict[str, list[str]] = defaultdict(list)  # messages by work key ("": outside work)
        try:
            while True:
                worker = worker or self._worker()
                current = name = ""
                try:
                    ray.get(worker.begin.remote())  # no time limit: the actor may wait for resources
                    for done, work in enumerate(shard.works, 1):
                        current, name = work.key, work.name
                        reject_message = failures[current][-1] if len(failures[current]) >= DEATHS else None
                        on_progress(done, ray.get(worker.run.remote(work, reject_message), timeout=limit))
                    current = name = ""  # failures from here on are not caused by a piece of work
                    return dict(ray.get(worker.stage.remote(self._lake.uri, shard), timeout=SLACK * STAGING))
                except (RayActorError, OutOfMemoryError, GetTimeoutError) as error:  # Ray also kills on low memory
                    if self._closed.is_set():
                        raise PoolClosed from None
                    timed_out = isinstance(error, GetTimeoutError)
                    if timed_out:
                        ray.kill(worker)
                    worker = None
                    failures[current].append(LATE.format(DEATHS, limit) if timed_out else DIED)
                    what = f"took longer than {limit:g} s on" if timed_out else "died on"
                    attempt = f"attempt {len(failures[current])} of {DEATHS}"
                    on_progress(0, [(logging.WARNING, f"a worker {what} {name or 'no work'}, {attempt}: restarting")])
                    if len(failures[current]) > DEATHS:
                        raise
        finally:
            self._free.put(worker)


def pool_size(stage: Stage, shards: int) -> int:
    """Return how many workers of a stage fit on the cluster: at least one, at most one per shard.

    Raises `ValueError` if the cluster lacks the CPUs or GPUs for one worker, which would wait forever.
    """
    import ray

    available = ray.cluster_resources()
    workers = shards
    for name, need in (("CPU", stage.needs.cpus), ("GPU", stage.needs.gpus)):
        if need > available.get(name, 0):
            raise ValueError(
                f"a worker of {stage.name} needs {need:g} {name}, the cluster has {available.get(name, 0):g}"
            )
        if need:
            workers = min(workers, math.floor(available[name] / need))
    workers = min(
        workers, math.floor(available.get("memory", math.inf) / (stage.needs.memory_gb * 2**30))
    )  # at least 1
    return max(1, workers)


class Worker:
    """Runs in a Ray actor with its own copy of the stage; collects outcomes until the shard is staged."""

    def __init__(self, stage: Stage) -> None:
        self._logs = LogBuffer()
        for name in LOGGED:
            logging.getLogger(name).addHandler(self._logs)
            logging.getLogger(name).setLevel(logging.INFO)
        self._stage = stage
        self._outcome = Outcome()
        stage.setup()

    def begin(self) -> None:
        """Start a new shard: discard outcomes that were not staged."""
        self._outcome = Outcome()

    def run(self, work: Work, reject_message: str | None) -> list[tuple[int, str]]:
        """Run one piece of work, or reject it if a `reject_message` is given; return the new log lines."""
        if reject_message is not None:
            outcome = Outcome(rejects=[Reject(work.key, work.item_id, work.name, "bug", reject_message)])
        else:
            start = time.time_ns()
            outcome = self._stage.run([work])
            outcome.times[work.key] = start, time.time_ns()
        outcome.check([work])
        self._outcome.merge(outcome)
        return self._logs.take()

    def stage(self, lake_uri: str, shard: Shard) -> dict[str, Any]:
        """Stage the shard; return its manifest. Raises `FileNotFoundError` if the lake was deleted meanwhile."""
        return stage_outcome(Lake(lake_uri, existing=True), shard, self._stage, self._outcome)


def _start_worker(stage: Stage) -> Any:
    import ray

    needs = stage.needs
    return ray.remote(Worker).options(num_cpus=needs.cpus, num_gpus=needs.gpus, max_restarts=0).remote(stage)


def use_loopback() -> None:
    """Let Ray, also that of child processes, listen on and connect to the loopback interface only.

    Call it before `ray` is imported. The variable is named after the systems on which this is Ray's default.
    """
    os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"


def set_ray_token() -> None:
    """Make Ray use an authentication token that only this user can read; keep a token set in the environment.

    By default Ray writes a token into the home folder that everybody can read. Ray reads the token once per process,
    so all clusters on this machine share it.
    """
    if "RAY_AUTH_TOKEN_PATH" in os.environ or "RAY_AUTH_TOKEN" in os.environ:
        return
    path = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "opendimo" / "ray-token"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as stream:
            stream.write(secrets.token_hex(32))
    os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(path)}
