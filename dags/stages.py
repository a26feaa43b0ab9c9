"""One pipeline stage as Prefect tasks: a task run per shard, one commit, and an account that must balance."""

from prefect import task
from prefect.artifacts import create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.futures import wait
from prefect.logging import get_run_logger

from dags.progress import Step, step
from pipelines.planning import Account, Run, account, finish, prepare
from pipelines.runner import Pool, pool_size
from pipelines.stage import Stage, Work
from storage_schemas.lake import Lake

SHARDS_PER_WORKER = 4
MAX_SHARD = 64


@task(task_run_name="{name} shard {shard}", retries=2, retry_delay_seconds=5, cache_policy=NO_CACHE)
def run_shard(name: str, shard: int, pool: Pool, run: Run, shown: Step) -> None:
    """Run and stage one shard; the worker's log lines go to this task run's log."""
    log = get_run_logger()

    def report(finished: int, lines: list[tuple[int, str]]) -> None:
        shown.advance(finished)
        for level, text in lines:
            log.log(level, text)

    manifest = pool.run_shard(run, shard, report)
    log.info("%s shard %d staged: %s", name, shard, manifest["note"])


@task(task_run_name="{name} commit", retries=2, retry_delay_seconds=5, cache_policy=NO_CACHE)
def commit_run(name: str, lake: Lake, run: Run) -> dict[str, int]:
    """The one transaction per table of this run."""
    rows = finish(lake, run)
    get_run_logger().info("%s run %s committed: %s", name, run.run_id, rows)
    return rows


def map_stage(lake: Lake, stage: Stage, works: list[Work], filtered: dict[str, int] | None = None) -> Account:
    """Do what is left of `works` (call it inside a flow) and return the account of all of them."""
    workers = pool_size(stage, max(1, len(works)))
    run = prepare(lake, stage, works, min(MAX_SHARD, max(1, len(works) // (workers * SHARDS_PER_WORKER))))
    with step(stage.name, run.size) as shown:
        if run.shards:
            with Pool(stage, lake, pool_size(stage, len(run.shards))) as pool:
                futures = [run_shard.submit(stage.name, k, pool, run, shown) for k in range(len(run.shards))]
                wait(futures)
                for future in futures:
                    future.result()
            commit_run(stage.name, lake, run)
        counted = account(lake, stage, works, filtered)
        shown.note(describe(counted))
    create_table_artifact(key=f"account-{stage.name}", table=[as_row(counted)])
    return counted


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
