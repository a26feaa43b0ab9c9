"""Maps a stage over shards on Ray: a pool of actors, each with its own copy of the stage.

Paths and ids travel between processes, never frames. A worker stages its shard itself; nobody commits here. A worker
that dies costs a retry, one that takes too long over a piece of work is ended and costs the same; a piece of work that
does so again and again ends as a reject, and the rest goes on.
"""

import logging
import math
import os
import queue
import secrets
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from opendimo.pipelines.engine.planning import Shard, stage_outcome
from opendimo.pipelines.engine.stage import Outcome, Reject, Stage, Work
from opendimo.storage_schemas.lake.lake import Lake
from opendimo.storage_schemas.lake.runs import staged

logger = logging.getLogger(__name__)

LOGGED = ("opendimo",)
STARTS = 3  # of Ray, one after another
STAGING = 3600.0  # seconds that staging a shard may take
DEATHS = 3  # a piece of work on which so many workers died is rejected; fewer deaths may have come from elsewhere

SLACK = float(os.environ.get("OPENDIMO_TIME_LIMITS", "1"))  # that all time limits are multiplied with
DIED = f"the worker process died {DEATHS} times on it: the file may be broken or too large for memory"
LATE = (
    "given up after {} attempts: the last took longer than the time limit of {:g} s (OPENDIMO_TIME_LIMITS=2 doubles it)"
)

OnProgress = Callable[[int, list[tuple[int, str]]], None]
"""Called with the pieces of the shard that are finished, fewer again after a worker died, and the worker's log lines
(level, text)."""


@contextmanager
def ray_session(address: str | None = None, cpus: int | None = None) -> Iterator[None]:
    """A Ray cluster: the one at `address`, or one on this machine that lives as long as the context."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if address is None:
        _own_token()
    import ray  # reads the token's environment when imported, so not earlier

    if ray.is_initialized():  # a flow inside a session that is already there
        yield
        return
    here = {"num_cpus": cpus or os.cpu_count(), "include_dashboard": False, "object_store_memory": 256 << 20}
    _init({"address": address} if address else here)
    try:
        yield
    finally:
        ray.shutdown()


def _init(options: dict[str, Any]) -> None:
    """Start Ray, or join one. On a busy machine its agents may take longer than it waits for them (its issue 65983)."""
    import ray

    for starts in range(1, STARTS + 1):
        try:
            ray.init(**options, log_to_driver=False, logging_level=logging.ERROR)
            return
        except Exception as error:  # Ray raises no narrower one
            ray.shutdown()
            if "timed out during startup" not in str(error):
                raise
            if starts == STARTS:
                raise RuntimeError(
                    f"Ray did not start in {STARTS} attempts: the machine is too busy; try again later"
                ) from error
            logger.warning("Ray took too long to start; starting it again")


class Pool:
    """Workers of one stage. Use as a context manager; `run_shard` may be called from several threads."""

    def __init__(self, stage: Stage, lake: Lake, workers: int) -> None:
        self._stage, self._lake = stage, lake
        self._free: queue.Queue[Any] = queue.Queue()
        for _ in range(workers):
            self._free.put(None)  # started when first needed

    def __enter__(self) -> "Pool":
        return self

    def __exit__(self, *_: object) -> None:
        import ray

        while not self._free.empty():
            if (worker := self._free.get()) is not None:
                ray.kill(worker)

    def run_shard(self, shard: Shard, on_progress: OnProgress) -> dict[str, Any]:
        """Run the works of a shard in one worker, which stages what comes out; return the shard's manifest."""
        import ray
        from ray.exceptions import GetTimeoutError, OutOfMemoryError, RayActorError

        if (manifest := staged(self._lake, shard.run_id, shard.number)) is not None:
            on_progress(len(shard.works), [])
            return manifest
        worker, limit = self._free.get(), SLACK * self._stage.needs.seconds
        ends: defaultdict[str, list[str]] = defaultdict(list)  # of workers, by the piece of work that they were at
        try:
            while True:
                worker = worker or _start(self._stage)
                current = ""
                try:
                    ray.get(worker.begin.remote())  # without a limit: it may wait for its place on the cluster
                    for done, work in enumerate(shard.works, 1):
                        current = work.key
                        why = ends[current][-1] if len(ends[current]) >= DEATHS else None
                        on_progress(done, ray.get(worker.run.remote(work, why), timeout=limit))
                    current = ""  # from here on it is nobody's fault
                    return dict(ray.get(worker.stage.remote(self._lake.uri, shard), timeout=SLACK * STAGING))
                except (RayActorError, OutOfMemoryError, GetTimeoutError) as error:  # Ray ends workers for memory, too
                    late = isinstance(error, GetTimeoutError)
                    if late:
                        ray.kill(worker)
                    worker = None
                    ends[current].append(LATE.format(DEATHS, limit) if late else DIED)
                    if len(ends[current]) > DEATHS:
                        raise
        finally:
            self._free.put(worker)


def pool_size(stage: Stage, shards: int) -> int:
    """How many workers of a stage fit on the cluster, at least one, at most one per shard.

    Raises `ValueError` where not even one fits: it would wait for ever.
    """
    import ray

    has = ray.cluster_resources()
    fits = shards
    for name, need in (("CPU", stage.needs.cpus), ("GPU", stage.needs.gpus)):
        if need > has.get(name, 0):
            raise ValueError(f"a worker of {stage.name} needs {need:g} {name}, the cluster has {has.get(name, 0):g}")
        if need:
            fits = min(fits, math.floor(has[name] / need))
    fits = min(fits, math.floor(has.get("memory", math.inf) / (stage.needs.memory_gb * 2**30)))  # a wish, no condition
    return max(1, fits)


class Worker:
    """Lives in a Ray actor with its own copy of the stage; gathers outcomes until the shard is staged."""

    def __init__(self, stage: Stage) -> None:
        self._logs = _Memory()
        for name in LOGGED:
            logging.getLogger(name).addHandler(self._logs)
            logging.getLogger(name).setLevel(logging.INFO)
        self._stage = stage
        self._outcome = Outcome()
        stage.setup()

    def begin(self) -> None:
        """Start a shard."""
        self._outcome = Outcome()

    def run(self, work: Work, why: str | None) -> list[tuple[int, str]]:
        """Do one piece of work, or reject it where it is known `why` it cannot be done; return the log lines."""
        if why is not None:
            outcome = Outcome(rejects=[Reject(work.key, work.item_id, work.name, "bug", why)])
        else:
            began = time.time_ns()
            outcome = self._stage.run([work])
            outcome.times[work.key] = began, time.time_ns()
        outcome.check([work])
        self._outcome.merge(outcome)
        return self._logs.take()

    def stage(self, lake_uri: str, shard: Shard) -> dict[str, Any]:
        """Stage the shard; return its manifest."""
        return stage_outcome(Lake(lake_uri), shard, self._stage, self._outcome)


class _Memory(logging.Handler):
    """Keeps the newest log lines until they are fetched."""

    def __init__(self) -> None:
        super().__init__()
        self._lines: deque[tuple[int, str]] = deque(maxlen=1000)

    def emit(self, record: logging.LogRecord) -> None:
        self._lines.append((record.levelno, self.format(record)))

    def take(self) -> list[tuple[int, str]]:
        lines = list(self._lines)
        self._lines.clear()
        return lines


def _start(stage: Stage) -> Any:
    import ray

    needs = stage.needs
    return ray.remote(Worker).options(num_cpus=needs.cpus, num_gpus=needs.gpus, max_restarts=0).remote(stage)


def _own_token() -> None:
    """A token that only this user can read: by default Ray writes one into the home folder, readable by everybody.

    Ray reads it once in a process, so it is the same for every cluster of this machine.
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
