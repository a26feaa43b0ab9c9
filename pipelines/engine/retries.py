"""Decide whether and when a failed piece of work is tried again."""

import time

import pyarrow as pa

from opendimo.pipelines.engine.columns import among
from opendimo.pipelines.engine.stage import PAUSED, Reject
from opendimo.storage_schemas.lake.lake import Lake

MAX_ATTEMPTS = 3
BACKOFF_NS = 60 * 1_000_000_000  # doubled with each attempt


def next_attempt(reject: Reject, attempts: int) -> int | None:
    """Return when to retry, in nanoseconds since 1970, or None for never.

    `attempts`: number of attempts that count, this one included.
    """
    if reject.error_class != "transient" or (attempts >= MAX_ATTEMPTS and not reject.untried):
        return None
    backoff = time.time_ns() + BACKOFF_NS * 2 ** min(attempts - 1, MAX_ATTEMPTS)
    return max(backoff, reject.not_before or 0)


def untried_attempts(lake: Lake, stage: str, keys: list[str]) -> dict[str, int]:
    """Count, by key, the earlier attempts that were rejected as `paused`; keys without any are missing."""
    where = f"stage = '{stage}' AND reason = '{PAUSED}'"
    paused = lake.dataset("rejects").to_table(columns=["work_key"], filter=where)["work_key"]
    counts = paused.filter(among(paused, pa.array(keys, pa.string()))).value_counts().to_pylist()
    return {entry["values"]: entry["counts"] for entry in counts}
