"""A few pieces of work done for real, where no run measured any: in a lake made for that, and within a time."""

import math
import os
import time
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from opendimo.pipelines.engine.planned import Planned
from opendimo.pipelines.engine.planning import Run, finish, prepare, stage_outcome
from opendimo.pipelines.engine.stage import Stage, Work
from opendimo.pipelines.engine.work_status import standing
from opendimo.storage_schemas.lake.lake import Lake


@dataclass(frozen=True)
class Tried:
    """A trial: `count` pieces of work of `planned`, whose items are in the lake `items`; what came out is in `away`.
    `late`: not all of them ended in time."""

    away: Lake
    items: Lake
    planned: Planned
    count: int = 0
    late: bool = False


def try_out(lake: Lake, away: Lake, stage: Stage, planned: Planned, count: int, deadline: float) -> Tried:
    """Do `count` pieces of what a run in `lake` would do, spread over the plan; what comes out is stored in `away`.

    As many processes work as a cluster of this machine has; the first piece of each, which loads libraries, comes on
    top and is not timed. At `deadline` (of the monotonic clock) they are killed, and what they were at is lost. Raises
    `ValueError` where one ends by itself before its work is done, and where this machine lacks the GPU for it.
    """
    left = standing(lake, stage.name, planned, time.time_ns()).left
    if not len(left):
        return Tried(away, lake, planned)
    workers = _workers(stage)
    few = Planned.of(_chosen(planned, left, count + len(workers)), planned.revision)
    with prepare(away, stage, few, shard_size=1) as run:
        spawn = get_context("spawn")  # Lance does not survive a fork
        numbers = [range(k, run.size, len(workers)) for k in range(run.size)]  # a shard is one piece of work
        processes = [
            spawn.Process(target=_work, args=(away.uri, stage, run, own, gpus), daemon=True)
            for own, gpus in zip(numbers, workers, strict=False)
        ]
        for process in processes:
            process.start()
        for process in processes:
            process.join(max(0.0, deadline - time.monotonic()))
        late = any(process.exitcode is None for process in processes)
        failed = any(process.exitcode for process in processes)
        for process in processes:
            process.kill()
            process.join()
        if failed:
            raise ValueError(f"{stage.name} cannot be tried: {_last_line(_log(away))}")
        finish(away, run, partial=True)
    return Tried(away, lake, planned, run.size, late)


def _workers(stage: Stage) -> list[str | None]:
    """Of each worker that fits on this machine, at least one, the GPUs that it has; None where it needs none."""
    needs = stage.needs
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30  # a wish, no condition
    fits = max(1, int(min((os.cpu_count() or 1) / max(needs.cpus, 1), memory / needs.memory_gb)))
    if not needs.gpus:
        return [None] * fits
    gpus, share = _gpus(), math.ceil(needs.gpus)
    if len(gpus) < share:
        raise ValueError(
            f"{stage.name} cannot be tried here: a worker needs {share} GPU, this machine has {len(gpus)}; "
            "plan without --sample"
        )
    fits = min(fits, len(gpus) // share)
    return [",".join(gpus[k * share : (k + 1) * share]) for k in range(fits)]


def _gpus() -> list[str]:
    """The GPUs of which this process may use some, as `CUDA_VISIBLE_DEVICES` names them."""
    import torch

    there = torch.cuda.device_count()
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    return (named.split(",") if named else [str(k) for k in range(there)])[:there]


def _chosen(planned: Planned, left: np.ndarray, count: int) -> list[Work]:
    """Works from all over what is left; of rigs, all views of so many takes, since these are measured together."""
    spread = np.unique(np.linspace(0, max(0, len(left) - 1), min(count, len(left))).round().astype(int))
    chosen = planned.works(left[spread].tolist())
    takes = {work.payload.get("capture_id") for work in chosen if work.payload.get("kind") == "multiview"}
    if not takes - {None}:
        return chosen
    return [work for work in planned.works(left.tolist()) if work in chosen or work.payload.get("capture_id") in takes]


def _work(lake_uri: str, stage: Stage, run: Run, numbers: range, gpus: str | None) -> None:
    """Do and stage some shards of one piece of work each, in a process of its own that says nothing."""
    if gpus is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpus
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
