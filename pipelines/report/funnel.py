"""Where everything went: the stages' accounts as bars."""

from dataclasses import dataclass

from opendimo.pipelines.engine.work_status import STAGES, Account
from opendimo.pipelines.progress import status
from opendimo.pipelines.quality.policy import Policy
from opendimo.storage_schemas.lake.lake import Lake

COUNTED = {
    "sources": "source items",
    "clips": "source items to cut",
    "duplicates": "clips compared",
    "rigs": "captures of several cameras",
    "verdict": "clips judged",
    "poses": "kept clips, or views of one take",
    "captions": "kept clips",
    "latents": "kept clips",
    "pairs": "sets of pairs",
}
"""What one input of each stage is."""


@dataclass(frozen=True)
class Funnel:
    """Accounts of all stages; `problem` where they do not agree with what is stored, and then only the verdict."""

    accounts: list[Account]
    rows: dict[str, int]
    problem: str | None


def read_funnel(lake: Lake, policy: Policy) -> Funnel:
    """The accounts, and how many rows each stage stored."""
    rows = {stage: lake.dataset(stage).count_rows() for stage in STAGES}
    try:
        return Funnel(status.funnel(lake, policy), rows, None)
    except AssertionError as error:
        return Funnel([status.verdict_account(lake, policy)], rows, str(error))
