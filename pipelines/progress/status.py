"""Where everything in a lake went: the account of every stage, by what is stored."""

import json
import time
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from opendimo.pipelines.engine.rejects import rejects
from opendimo.pipelines.engine.work_status import STAGES, Account
from opendimo.pipelines.quality.policy import Policy
from opendimo.pipelines.quality.verdicts import verdicts
from opendimo.storage_schemas.lake.lake import Lake


@dataclass(frozen=True)
class Pending:
    """Failed work of a stage that is tried again: `waiting` for its time, or `due` in the next run."""

    waiting: int
    due: int


def funnel(lake: Lake, policy: Policy) -> list[Account]:
    """The accounts of all stages in order, with the verdicts over clips before the labels.

    What went in is what the committed runs said they took in (the ledger); where it went is what the tables hold.
    Raises `AssertionError` where the two do not agree.
    """
    accounts, failed = [], rejects(lake)
    for stage in STAGES:
        accounts.append(_stage_account(lake, stage, failed))
        if stage == "rigs":
            accounts.append(verdict_account(lake, policy))
    return accounts


def verdict_account(lake: Lake, policy: Policy) -> Account:
    """Clips kept and filtered, by reason."""
    reasons = verdicts(lake, policy)["reason"]
    filtered = _counts(reasons.drop_null())
    return Account("verdict", len(reasons), reasons.null_count, filtered).check()


def pending(failed: pa.Table) -> dict[str, Pending]:
    """By stage, how many of these rejects are tried again."""
    due = pc.less_equal(failed["next_attempt_at"], time.time_ns())  # null: never
    by_stage = [_counts(failed["stage"].filter(mask)) for mask in (pc.invert(due), due)]
    return {stage: Pending(*(counts.get(stage, 0) for counts in by_stage)) for stage in STAGES}


def _stage_account(lake: Lake, stage: str, failed: pa.Table) -> Account:
    entries = lake.read("ledger", ["run_id", "table_name", "counts", "replaced"], f"stage = '{stage}'")
    runs = {entry["run_id"]: json.loads(entry["counts"]) for entry in entries}
    replaced = sum(entry["replaced"] for entry in entries if entry["table_name"] == stage)
    inputs = sum(counts["in"] for counts in runs.values()) - replaced
    rejected = _counts(failed["error_class"].filter(pc.equal(failed["stage"], stage)))
    done = pc.count_distinct(lake.column(stage, "work_key")).as_py()
    return Account(stage, inputs, done, {}, rejected).check()


def _counts(values: pa.ChunkedArray) -> dict[str, int]:
    return {entry["values"]: entry["counts"] for entry in values.value_counts().to_pylist()}
