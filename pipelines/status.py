"""Where everything in a lake went: the account of every stage, by what is stored."""

import json
from collections import Counter
from typing import Any

from pipelines.planning import Account
from pipelines.quality import Policy, verdicts
from storage_schemas.lake import Lake

STAGES = ("sources", "clips", "poses", "captions", "latents", "pairs")


def funnel(lake: Lake, policy: Policy) -> list[Account]:
    """The accounts of all stages in order, with the verdicts over clips after `clips`.

    What went in is what the committed runs said they took in (the ledger); where it went is what the tables hold.
    Raises `AssertionError` where the two do not agree.
    """
    accounts = []
    for stage in STAGES:
        accounts.append(_stage_account(lake, stage))
        if stage == "clips":
            accounts.append(verdict_account(lake, policy))
    return accounts


def verdict_account(lake: Lake, policy: Policy) -> Account:
    """Clips kept and filtered, by reason."""
    reasons = verdicts(lake, policy)
    filtered = Counter(reason for reason in reasons.values() if reason is not None)
    return Account("verdict", len(reasons), len(reasons) - filtered.total(), dict(filtered)).check()


def rejects(lake: Lake) -> list[dict[str, Any]]:
    """The last failed attempt at every piece of work that is not done, by stage and name."""
    last: dict[str, dict[str, Any]] = {}
    columns = ["stage", "item_id", "name", "error_class", "message", "attempts", "next_attempt_at", "work_key"]
    for row in sorted(lake.read("rejects", columns), key=lambda r: r["attempts"]):
        last[row["work_key"]] = row
    done = {stage: lake.keys(stage, "work_key") for stage in {row["stage"] for row in last.values()}}
    failed = [row for row in last.values() if row["work_key"] not in done[row["stage"]]]
    return sorted(failed, key=lambda row: (STAGES.index(row["stage"]), row["name"]))


def _stage_account(lake: Lake, stage: str) -> Account:
    entries = lake.read("ledger", ["run_id", "table_name", "counts", "replaced"], f"stage = '{stage}'")
    runs = {entry["run_id"]: json.loads(entry["counts"]) for entry in entries}
    replaced = sum(entry["replaced"] for entry in entries if entry["table_name"] == stage)
    inputs = sum(counts["in"] for counts in runs.values()) - replaced
    rejected = Counter(row["error_class"] for row in rejects(lake) if row["stage"] == stage)
    return Account(stage, inputs, len(lake.keys(stage, "work_key")), {}, dict(rejected)).check()
