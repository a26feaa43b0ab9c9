"""Run a small sample of work to measure rates if no run has: in a temporary lake and with a time limit."""

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
from opendimo.pipelines.engine.work_status import work_status
from opendimo.pipelines.sources.multiview import CalibratedView
from opendimo.storage_schemas.lake.lake import Lake


@dataclass(frozen=True)
class Tried:
    """A sample run: `count` pieces of work of `planned`, whose items are in the lake `items`.

    Results are in the lake `away`. `late`: not all of them finished in time.
    """

    away: Lake
    items: Lake
    planned: Planned
    count: int = 0
    late: bool = False


def try_out(lake: Lake, away: Lake, stage: Stage, planned: Planned, count: int, deadline: float) -> Tried:
    """Run `count` pieces of the open work of a plan, spread over it, and store the results in the lake `away`.

    It uses as many processes as a Ray cluster on this machine would have workers. Each processes one extra piece first,
    which loads libraries and is not timed. At `deadline` (monotonic clock) they are killed, and their unfinished work
    is lost. Raises `ValueError` if a process fails, or if this machine lacks the GPUs for one worker.
    """
    left = work_status(lake, stage.name, planned, time.time_ns()).left
    if not len(left):
        return Tried(away, lake, planned)
    workers = _gpus_per_worker(stage)
    sampled_plan = Planned.of(_sampled_works(planned, left, count + len(workers)), planned.revision)
    with prepare(away, stage, sampled_plan, shard_size=1) as run:
        spawn = get_context("spawn")  # Lance does not survive a fork
        numbers = [range(k, run.size, len(workers)) for k in range(run.size)]  # one piece of work per shard
        processes = [
            spawn.Process(target=_run_shards, args=(away.uri, stage, run, shard_numbers, gpus), daemon=True)
            for shard_numbers, gpus in zip(numbers, workers, strict=False)
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
            raise ValueError(f"a sample of {stage.name} failed: {_last_line(_log_path(away))}")
        finish(away, run, partial=True)
    return Tried(away, lake, planned, run.size, late)


def _gpus_per_worker(stage: Stage) -> list[str | None]:
    """Return, per worker that fits on this machine (at least one), its `CUDA_VISIBLE_DEVICES`; None if it needs no GPU.

    Raises `ValueError` if this machine has too few GPUs for one worker.
    """
    needs = stage.needs
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30  # one worker is started in any case
    workers = max(1, int(min((os.cpu_count() or 1) / max(needs.cpus, 1), memory / needs.memory_gb)))
    if not needs.gpus:
        return [None] * workers
    gpus, gpus_needed = _gpus(), math.ceil(needs.gpus)
    if len(gpus) < gpus_needed:
        raise ValueError(
            f"cannot sample {stage.name} here: a worker needs {gpus_needed} GPU, this machine has {len(gpus)}; "
            "plan without --sample"
        )
    workers = min(workers, len(gpus) // gpus_needed)
    return [",".join(gpus[k * gpus_needed : (k + 1) * gpus_needed]) for k in range(workers)]


def _gpus() -> list[str]:
    """Return the GPUs that this process may use, as named in `CUDA_VISIBLE_DEVICES`."""
    import torch

    count = torch.cuda.device_count()
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return (visible.split(",") if visible else [str(k) for k in range(count)])[:count]


def _sampled_works(planned: Planned, left: np.ndarray, count: int) -> list[Work]:
    """Return works spread evenly over the open ones; for sources of rigs add all views of their captures, which are
    measured together."""
    indices = np.unique(np.linspace(0, max(0, len(left) - 1), min(count, len(left))).round().astype(int))
    chosen = planned.works(left[indices].tolist())
    takes = {_take(work) for work in chosen} - {None}
    if not takes:
        return chosen
    return [work for work in planned.works(left.tolist()) if work in chosen or _take(work) in takes]


def _take(work: Work) -> str | None:
    """Return the capture of a view of a rig; None for all other work."""
    return work.payload.capture_id if isinstance(work.payload, CalibratedView) else None


def _run_shards(lake_uri: str, stage: Stage, run: Run, numbers: range, gpus: str | None) -> None:
    """Run and stage shards of one piece of work each, in a child process whose output goes to a log file."""
    if gpus is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpus
    lake = Lake(lake_uri)
    with open(_log_path(lake), "ab") as log:
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


def _log_path(away: Lake) -> Path:
    return away.local / "trial.log"


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").split("\n") if log.is_file() else []
    return next(
        (line for line in reversed(lines) if line.strip()),
        "its process printed nothing; run the stage's command to see why",
    )
