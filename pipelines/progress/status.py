"""Account for everything in a lake: inputs and results of every stage, from the stored tables."""

import json
import time
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from opendimo.pipelines.engine.rejects import rejects
from opendimo.pipelines.engine.work_status import STAGES, Account, without_result
from opendimo.pipelines.quality.policy import Policy
from opendimo.pipelines.quality.verdicts import verdicts
from opendimo.storage_schemas.lake.lake import Lake


@dataclass(frozen=True)
class Pending:
    """Counts of failed work of a stage that will be retried: `waiting` for its time, or `due` in the next run."""

    waiting: int
    due: int


def funnel(lake: Lake, policy: Policy) -> list[Account]:
    """Return the accounts of all stages in order; the verdicts on clips come after `rigs`, before the labels.

    Inputs are counted from the ledger of committed runs, results from the tables. Raises `AssertionError` if the two do
    not agree.
    """
    accounts, failed = [], rejects(lake)
    for stage in STAGES:
        accounts.append(_stage_account(lake, stage, failed))
        if stage == "rigs":
            accounts.append(verdict_account(lake, policy))
    return accounts


def verdict_account(lake: Lake, policy: Policy) -> Account:
    """Count the clips that are kept and those that are filtered, by reason."""
    reasons = verdicts(lake, policy)["reason"]
    filtered = _counts(reasons.drop_null())
    return Account("verdict", len(reasons), reasons.null_count, filtered).check()


def pending(failed: pa.Table) -> dict[str, Pending]:
    """Count, by stage, the rejects that will be retried."""
    due = pc.less_equal(failed["next_attempt_at"], time.time_ns())  # null: never
    by_stage = [_counts(failed["stage"].filter(mask)) for mask in (pc.invert(due), due)]
    return {stage: Pending(*(counts.get(stage, 0) for counts in by_stage)) for stage in STAGES}


def _stage_account(lake: Lake, stage: str, failed: pa.Table) -> Account:
    entries = lake.read("ledger", ["run_id", "table_name", "counts", "replaced"], f"stage = '{stage}'")
    runs = {entry["run_id"]: json.loads(entry["counts"]) for entry in entries}
    replaced = sum(entry["replaced"] for entry in entries if entry["table_name"] == stage)
    inputs = sum(counts["in"] for counts in runs.values()) - replaced
    rejected = _counts(failed["error_class"].filter(pc.equal(failed["stage"], stage)))
    empty = {reason: len(keys) for reason, keys in without_result(lake, stage).items() if len(keys)}
    done = pc.count_distinct(lake.column(stage, "work_key")).as_py() - sum(empty.values())
    return Account(stage, inputs, done, empty, rejected).check()


def _counts(values: pa.ChunkedArray) -> dict[str, int]:
    return {entry["values"]: entry["counts"] for entry in values.value_counts().to_pylist()}
