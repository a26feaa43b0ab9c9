"""One pipeline stage as Prefect tasks: a task run per part of a run, a commit per run, an account that must balance.

A part is some shards of the run, staged one after another: shards are as small as memory and the loss of a worker want
them, task runs as few as Prefect's dashboard bears.
"""

import math
import time
from collections import Counter
from collections.abc import Iterable

from prefect import task
from prefect.artifacts import create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.futures import wait
from prefect.logging import get_run_logger

from opendimo.dags import progress
from opendimo.dags.requests import Step
from opendimo.pipelines.engine.planned import Planned
from opendimo.pipelines.engine.planning import RUN_LIMIT, Run, Shard, account, finish, prepare
from opendimo.pipelines.engine.runner import Pool, pool_size
from opendimo.pipelines.engine.stage import Stage
from opendimo.pipelines.engine.work_status import Account, standing
from opendimo.storage_schemas.lake.lake import Lake

PARTS_PER_WORKER = 4  # of a run: the slowest of them is waited for
MAX_PARTS = 1000  # of a stage in one flow run, unless there are more workers: Prefect's dashboard bears few thousands


@task(task_run_name="{name} part {part}", retries=2, retry_delay_seconds=5, cache_policy=NO_CACHE)
def run_part(name: str, part: int, shards: list[Shard], pool: Pool, shown: progress.Step) -> None:
    """Run and stage some shards, one after another; the workers' log lines go to this task run's log."""
    log = get_run_logger()
    done, rejected = 0, Counter[str]()
    for shard in shards:

        def report(finished: int, lines: list[tuple[int, str]], shard: Shard = shard) -> None:
            shown.reach((shard.run_id, shard.number), finished)
            for level, text in lines:
                log.log(level, text)

        note = pool.run_shard(shard, report)["note"]
        done += len(note["done"])
        rejected.update({kind: len(keys) for kind, keys in note["rejected"].items()})
    log.info("%s part %d staged: %d done, rejected: %s", name, part, done, dict(rejected))


@task(task_run_name="{name} commit", retries=2, retry_delay_seconds=5, cache_policy=NO_CACHE)
def commit_run(name: str, lake: Lake, run: Run) -> dict[str, int]:
    """The one transaction per table of this run."""
    rows = finish(lake, run)
    get_run_logger().info("%s run %s committed: %s", name, run.run_id, rows)
    return rows


def map_stages(lake: Lake, steps: Iterable[Step]) -> list[Account]:
    """Do what is left of some stages, one after the other (call it inside a flow); return the account of each."""
    return [map_stage(lake, step) for step in steps]


def map_stage(lake: Lake, step: Step) -> Account:
    """Do what is left of a stage, run by run, and return the account of all its work."""
    planned, stage = step.plan(), step.stage
    first = None
    left = len(standing(lake, stage.name, planned, time.time_ns()).left)  # of all runs: the time left is for all
    with progress.step(stage.name, left) as shown:
        runs = math.ceil(left / RUN_LIMIT)
        while (run := _run(lake, stage, planned, shown, runs, left)).shards:
            if first == (first := (work := run.shards[0][0], run.attempts.get(work.key))):
                raise AssertionError(f"{stage.name}: {work.name} is done, but another piece of work has made its row")
        counted = account(lake, stage, planned, step.filtered())
        shown.note(describe(counted))
    create_table_artifact(key=f"account-{stage.name}", table=[as_row(counted)])
    return counted


def _run(lake: Lake, stage: Stage, planned: Planned, shown: progress.Step, runs: int, left: int) -> Run:
    """Do the next of about so many `runs` of a plan of which so much was `left` before the first of them; it has no
    shards where nothing is left now."""
    most = min(RUN_LIMIT, left)
    shard_size = min(stage.needs.shard, max(1, most // (pool_size(stage, max(1, most)) * PARTS_PER_WORKER)))
    with prepare(lake, stage, planned, shard_size) as run:
        if run.shards:
            workers = pool_size(stage, len(run.shards))
            with Pool(stage, lake, workers) as pool:
                futures = [
                    run_part.submit(stage.name, number, [run.shard(k) for k in numbers], pool, shown)
                    for number, numbers in enumerate(parts(len(run.shards), workers, runs))
                ]
                wait(futures)
                for future in futures:
                    future.result()
            commit_run(stage.name, lake, run)
        return run


def parts(shards: int, workers: int, runs: int) -> list[range]:
    """The numbers of the shards of each part of a run, of about so many `runs`: enough parts that every worker has
    some, few enough for Prefect."""
    count = min(shards, max(workers, min(workers * PARTS_PER_WORKER, MAX_PARTS // max(1, runs))))
    return [range(number, shards, count) for number in range(count)]


def describe(counted: Account) -> str:
    """An account in one line: `9 in = 6 done + 2 filtered (several_people 2) + 1 rejected (data 1)`."""
    parts = [f"{counted.inputs} in = {counted.done} done"]
    for word, counts in (("filtered", counted.filtered), ("rejected", counted.rejected)):
        detail = ", ".join(f"{reason} {n}" for reason, n in sorted(counts.items()))
        parts.append(f"{sum(counts.values())} {word}" + (f" ({detail})" if detail else ""))
    return " + ".join(parts)


def as_row(counted: Account) -> dict[str, int | str]:
    """An account as a row of a table."""
    return {
        "stage": counted.stage,
        "in": counted.inputs,
        "done": counted.done,
        "filtered": sum(counted.filtered.values()),
        "rejected": sum(counted.rejected.values()),
    }
