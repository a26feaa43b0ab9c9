"""A few pieces of work done for real, where no run measured any: in a lake made for that, and within a time."""

import os
import time
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from pipelines.planned import Planned
from pipelines.planning import Run, finish, prepare, stage_outcome
from pipelines.stage import Stage, Work
from pipelines.standing import standing
from storage_schemas.lake import Lake


def try_out(lake: Lake, away: Lake, stage: Stage, planned: Planned, count: int, deadline: float) -> None:
    """Do `count` pieces of what a run in `lake` would do, spread over the plan; what comes out is stored in `away`.

    As many processes work as a cluster of this machine has; the first piece of each, which loads libraries, comes on
    top and is not timed. At `deadline` (of the monotonic clock) they are killed, and what they were at is lost. Raises
    `ValueError` where one ends by itself before its work is done.
    """
    left = standing(lake, stage.name, planned, time.time_ns()).left
    workers = max(1, int((os.cpu_count() or 1) // max(stage.needs.cpus, 1)))
    few = Planned.of(_chosen(planned, left, count + workers), planned.revision)
    with prepare(away, stage, few, shard_size=1) as run:
        if not run.shards:
            return
        numbers = [range(k, len(run.shards), workers) for k in range(min(workers, len(run.shards)))]
        spawn = get_context("spawn")  # Lance does not survive a fork
        processes = [spawn.Process(target=_work, args=(away.uri, stage, run, own), daemon=True) for own in numbers]
        for process in processes:
            process.start()
        for process in processes:
            process.join(max(0.0, deadline - time.monotonic()))
        failed = any(process.exitcode for process in processes)
        for process in processes:
            process.kill()
            process.join()
        if failed:
            raise ValueError(f"{stage.name} cannot be tried: {_last_line(_log(away))}")
        finish(away, run, partial=True)


def _chosen(planned: Planned, left: np.ndarray, count: int) -> list[Work]:
    """Works from all over what is left; of rigs, all views of so many takes, since these are measured together."""
    spread = np.unique(np.linspace(0, max(0, len(left) - 1), min(count, len(left))).round().astype(int))
    chosen = planned.works(left[spread].tolist())
    takes = {work.payload.get("capture_id") for work in chosen if work.payload.get("kind") == "multiview"}
    if not takes - {None}:
        return chosen
    return [work for work in planned.works(left.tolist()) if work in chosen or work.payload.get("capture_id") in takes]


def _work(lake_uri: str, stage: Stage, run: Run, numbers: range) -> None:
    """Do and stage some shards of one piece of work each, in a process of its own that says nothing."""
    lake = Lake(lake_uri)
    with open(_log(lake), "ab") as log:
        for stream in (1, 2):
            os.dup2(log.fileno(), stream)
    stage.setup()
    for number in numbers:
        shard = run.shard(number)
        began = time.time_ns()
        outcome = stage.run(shard.works)
        if number != numbers[0] or len(numbers) == 1:
            outcome.times[shard.works[0].key] = began, time.time_ns()
        stage_outcome(lake, shard, stage, outcome)


def _log(away: Lake) -> Path:
    return away.local / "trial.log"


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").split("\n") if log.is_file() else []
    return next((line for line in reversed(lines) if line.strip()), "see whether its command works")
