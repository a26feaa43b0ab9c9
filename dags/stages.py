"""Run a pipeline stage as Prefect tasks: a task run per part of a run, a commit per run, and a balanced account.

A part is a sequence of shards that one task run stages in turn. Shards are small, to bound the memory and the repeated
work after a worker is lost; parts are larger, because the Prefect dashboard cannot handle many task runs.
"""

import math
import os
import time
from collections import defaultdict
from collections.abc import Iterable

from prefect import task
from prefect.artifacts import create_table_artifact
from prefect.assets import materialize
from prefect.cache_policies import NO_CACHE
from prefect.futures import wait
from prefect.logging import get_run_logger
from prefect.states import State

from opendimo.dags import progress
from opendimo.dags.assets import stage_asset, upstream_of
from opendimo.dags.labels import artifact_key
from opendimo.dags.requests import Step
from opendimo.pipelines.engine.planned import Planned
from opendimo.pipelines.engine.planning import RUN_LIMIT, Run, Shard, account, finish, prepare, require_progress
from opendimo.pipelines.engine.runner import Pool, PoolClosed, pool_size, ray_session
from opendimo.pipelines.engine.stage import Stage
from opendimo.pipelines.engine.work_status import Account, work_status
from opendimo.storage_schemas.lake.lake import Lake

SHOWN = 5  # number of rejected items that a line of the log names
PARTS_PER_WORKER = 4  # per run; several parts per worker reduce the wait for the slowest one
MAX_PARTS = 1000  # per stage and flow run, unless there are more workers: the Prefect dashboard handles a few thousand


def _may_succeed(_task: object, _run: object, state: State) -> bool:
    """Return whether a retry of a part may succeed: not after the pool of workers was closed."""
    return not isinstance(state.result(raise_on_failure=False), PoolClosed)


@task(
    task_run_name="{name} part {part}",
    retries=2,
    retry_delay_seconds=5,
    retry_condition_fn=_may_succeed,
    cache_policy=NO_CACHE,
)
def run_part(name: str, part: int, shards: list[Shard], pool: Pool, bar: progress.Step) -> None:
    """Run and stage shards one after another, and forward the logs of the workers to the log of this task run."""
    log = get_run_logger()
    done, rejected = 0, defaultdict[str, list[str]](list)
    for shard in shards:

        def report(finished: int, lines: list[tuple[int, str]], shard: Shard = shard) -> None:
            bar.reach((shard.run_id, shard.number), finished)
            for level, text in lines:
                log.log(level, text)

        note = pool.run_shard(shard, report)["note"]
        done += len(note["done"])
        names = {work.key: work.name for work in shard.works}
        for kind, keys in note["rejected"].items():
            rejected[kind] += [names[key] for key in keys]
    for kind, items in rejected.items():
        shown = ", ".join(items[:SHOWN]) + (", ..." if items[SHOWN:] else "")
        log.warning("%s part %d: %d rejected (%s): %s; `dimo status` tells why", name, part, len(items), kind, shown)
    log.info("%s part %d staged: %d done, %d rejected", name, part, done, sum(map(len, rejected.values())))


def commit_run(name: str, lake: Lake, run: Run) -> dict[str, int]:
    """Commit a run as a task, with one transaction per table; return the number of rows per table.

    The task materializes the asset of the stage.
    """
    asset = stage_asset(lake.uri, name)

    @materialize(
        asset,
        asset_deps=upstream_of(lake.uri, name),
        name="commit_run",
        task_run_name=f"{name} commit",
        retries=2,
        retry_delay_seconds=5,
        cache_policy=NO_CACHE,
    )
    def commit() -> dict[str, int]:
        rows = finish(lake, run)
        get_run_logger().info("%s run %s committed: %s", name, run.run_id, rows)
        asset.add_metadata({"run_id": run.run_id, "rows": rows})
        return rows

    return commit()


def map_stages(lake: Lake, steps: Iterable[Step]) -> list[Account]:
    """Run the open work of several stages in order and return the account of each. Call it inside a flow.

    Connects to the Ray cluster at `RAY_ADDRESS`, or starts a local one, unless the process is connected.
    """
    with ray_session(os.environ.get("RAY_ADDRESS")):
        return [map_stage(lake, step) for step in steps]


def map_stage(lake: Lake, step: Step) -> Account:
    """Run the open work of a stage, run by run, and return the account of all its work.

    Raises `AssertionError` if a run makes no progress because two work items write the same row.
    """
    planned, stage = step.plan(), step.stage
    first = None
    left = len(work_status(lake, stage.name, planned, time.time_ns()).left)  # over all runs, as is the time left
    with progress.step(stage.name, left) as bar:
        runs = math.ceil(left / RUN_LIMIT)
        while (run := _run(lake, stage, planned, bar, runs, left)).shards:
            first = require_progress(stage, run, first)
        stage_account = account(lake, stage, planned, step.filtered())
        bar.note(describe(stage_account))
    create_table_artifact(
        key=artifact_key(f"account {stage.name}", lake.uri),
        table=[as_row(stage_account)],
        description=f"All work of the stage {stage.name} in {lake.uri}",
    )
    return stage_account


def _run(lake: Lake, stage: Stage, planned: Planned, bar: progress.Step, runs: int, left: int) -> Run:
    """Execute the next run of a plan and return it; it has no shards if no work is open.

    `runs`: expected number of runs of the plan. `left`: number of open work items before the first run.
    """
    run_size = min(RUN_LIMIT, left)
    shard_size = min(stage.needs.shard, max(1, run_size // (pool_size(stage, max(1, run_size)) * PARTS_PER_WORKER)))
    with prepare(lake, stage, planned, shard_size) as run:
        if run.shards:
            workers = pool_size(stage, len(run.shards))
            with Pool(stage, lake, workers) as pool:
                futures = [
                    run_part.submit(stage.name, number, [run.shard(k) for k in numbers], pool, bar)
                    for number, numbers in enumerate(parts(len(run.shards), workers, runs))
                ]
                wait(futures)
                for future in futures:
                    future.result()
            commit_run(stage.name, lake, run)
        return run


def parts(shards: int, workers: int, runs: int) -> list[range]:
    """Split the shards of a run into parts; return the shard numbers of each part.

    There are enough parts to keep every worker busy, and few enough for the Prefect dashboard. `runs`: expected number
    of runs of the stage in this flow run.
    """
    count = min(shards, max(workers, min(workers * PARTS_PER_WORKER, MAX_PARTS // max(1, runs))))
    return [range(number, shards, count) for number in range(count)]


def describe(stage_account: Account) -> str:
    """Format an account in one line: `9 in = 6 done + 2 filtered (several_people 2) + 1 rejected (data 1)`."""
    terms = [f"{stage_account.inputs} in = {stage_account.done} done"]
    for result, counts in (("filtered", stage_account.filtered), ("rejected", stage_account.rejected)):
        detail = ", ".join(f"{reason} {n}" for reason, n in sorted(counts.items()))
        terms.append(f"{sum(counts.values())} {result}" + (f" ({detail})" if detail else ""))
    return " + ".join(terms)


def as_row(stage_account: Account) -> dict[str, int | str]:
    """Convert an account to a row of the Prefect table artifact."""
    return {
        "stage": stage_account.stage,
        "in": stage_account.inputs,
        "done": stage_account.done,
        "filtered": sum(stage_account.filtered.values()),
        "rejected": sum(stage_account.rejected.values()),
    }
