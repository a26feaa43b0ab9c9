"""Read how many inputs of each stage were done, filtered and rejected."""

from dataclasses import dataclass

from opendimo.pipelines.engine.work_status import STAGES, Account
from opendimo.pipelines.progress import status
from opendimo.pipelines.quality.policy import Policy
from opendimo.storage_schemas.lake.lake import Lake

COUNTED = {
    "sources": "source items",
    "clips": "source items to cut",
    "duplicates": "clips compared",
    "hands": "clips measured",
    "rigs": "captures of several cameras",
    "verdict": "clips judged",
    "poses": "kept clips, or views of one take",
    "captions": "kept clips",
    "latents": "kept clips",
    "pairs": "sets of pairs",
}
"""Unit in which the inputs of each stage are counted."""


@dataclass(frozen=True)
class Funnel:
    """Accounts of all stages. `problem`: why they do not agree with the stored rows; then `accounts` holds only that of
    the verdict."""

    accounts: list[Account]
    rows: dict[str, int]
    problem: str | None


def read_funnel(lake: Lake, policy: Policy) -> Funnel:
    """Read the accounts, and the number of rows that each stage stored."""
    rows = {stage: lake.dataset(stage).count_rows() for stage in STAGES}
    try:
        return Funnel(status.funnel(lake, policy), rows, None)
    except AssertionError as error:
        return Funnel([status.verdict_account(lake, policy)], rows, str(error))
