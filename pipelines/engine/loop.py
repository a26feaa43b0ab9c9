"""Run one stage on a lake in this process: no Ray, no Prefect, the same work keys, rejects, commits and account."""

from collections.abc import Callable

from opendimo.pipelines.engine.planned import Planned
from opendimo.pipelines.engine.planning import account, finish, prepare, require_progress, stage_outcome
from opendimo.pipelines.engine.stage import Stage
from opendimo.pipelines.engine.work_status import Account
from opendimo.storage_schemas.lake.lake import Lake


def run_stage(
    lake: Lake, stage: Stage, planned: Planned, on_progress: Callable[[int, int], None] = lambda done, total: None
) -> Account:
    """Do the work of a plan that is left, and return the account of the whole plan.

    Completed work is skipped, failed work is retried when it is due, and each run of at most 16,384 pieces of work is
    committed in one transaction per table. After a crash, call it again to resume. Call `stage.setup()` first.

    Args:
        on_progress: called after each shard with the pieces of work done and the size of the current run.

    Raises:
        AssertionError: a piece of work was neither done nor rejected, or two of them write the same row.
    """
    first = None
    while True:
        with prepare(lake, stage, planned, stage.needs.shard) as run:
            if not run.shards:
                return account(lake, stage, planned)
            first = require_progress(stage, run, first)
            done = 0
            for number in range(len(run.shards)):
                shard = run.shard(number)
                stage_outcome(lake, shard, stage, stage.run(shard.works))
                done += len(shard.works)
                on_progress(done, run.size)
            finish(lake, run)
