"""One pipeline stage as Prefect tasks: a task run per shard, a commit per run, and an account that must balance."""

import time
from collections.abc import Iterable

from prefect import task
from prefect.artifacts import create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.futures import wait
from prefect.logging import get_run_logger

from dags import progress
from dags.steps import Step
from pipelines.planned import Planned
from pipelines.planning import RUN_LIMIT, Run, Shard, account, finish, prepare
from pipelines.runner import Pool, pool_size
from pipelines.stage import Stage
from pipelines.standing import Account, standing
from storage_schemas.lake import Lake

SHARDS_PER_WORKER = 4
MAX_SHARD = 256


@task(task_run_name="{name} shard {shard.number}", retries=2, retry_delay_seconds=5, cache_policy=NO_CACHE)
def run_shard(name: str, shard: Shard, pool: Pool, shown: progress.Step) -> None:
    """Run and stage one shard; the worker's log lines go to this task run's log."""
    log = get_run_logger()

    def report(finished: int, lines: list[tuple[int, str]]) -> None:
        shown.advance(finished)
        for level, text in lines:
            log.log(level, text)

    manifest = pool.run_shard(shard, report)
    rejected = {kind: len(keys) for kind, keys in manifest["note"]["rejected"].items()}
    log.info("%s shard %d staged: %d done, rejected: %s", name, shard.number, len(manifest["note"]["done"]), rejected)


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
        while (run := _run(lake, stage, planned, shown)).shards:
            if first == (first := (work := run.shards[0][0], run.attempts.get(work.key))):
                raise AssertionError(f"{stage.name}: {work.name} is done, but another piece of work has made its row")
        counted = account(lake, stage, planned, step.filtered())
        shown.note(describe(counted))
    create_table_artifact(key=f"account-{stage.name}", table=[as_row(counted)])
    return counted


def _run(lake: Lake, stage: Stage, planned: Planned, shown: progress.Step) -> Run:
    """Do the next run of a plan, which has no shards where nothing is left."""
    most = min(RUN_LIMIT, len(planned))
    shard_size = min(MAX_SHARD, max(1, most // (pool_size(stage, max(1, most)) * SHARDS_PER_WORKER)))
    with prepare(lake, stage, planned, shard_size) as run:
        if run.shards:
            with Pool(stage, lake, pool_size(stage, len(run.shards))) as pool:
                futures = [run_shard.submit(stage.name, run.shard(k), pool, shown) for k in range(len(run.shards))]
                wait(futures)
                for future in futures:
                    future.result()
            commit_run(stage.name, lake, run)
        return run


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
