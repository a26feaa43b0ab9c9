"""What a run of a stage would do, how long it would take and how much it would store, by what earlier runs did."""

import json
import time
from dataclasses import dataclass

import pyarrow.compute as pc

from pipelines.planned import Planned
from pipelines.standing import DONE, DUE, FAILED, NEW, WAITING, stale, standing
from storage_schemas.lake import Lake

RUNS = 5  # the latest ones, which are averaged
WRITES = {"sources": ("sources", "captures"), "clips": ("clips", "clip_videos", "fingerprints")}
"""Tables of the stages that fill more than one."""


@dataclass(frozen=True)
class Forecast:
    """Pieces of work of a plan: `inputs = done + failed + waiting + left`, `left = new + stale + due`.

    `stale`: there are rows of the item, but of another version, config or input. `due`: it failed, and is tried again.
    `seconds` and `bytes` are estimates for what is left, None where no run measured them yet.
    """

    stage: str
    inputs: int
    done: int
    failed: int
    waiting: int
    stale: int
    new: int
    due: int
    left: int
    seconds: float | None
    bytes: int | None


def forecast(lake: Lake, stage: str, planned: Planned) -> Forecast:
    """What a run of a plan would do now. Writes nothing."""
    found = standing(lake, stage, planned, time.time_ns())
    outdated, left = stale(lake, stage, found), len(found.left)
    seconds, size = seconds_per_item(lake, stage), bytes_per_item(lake, stage)
    return Forecast(
        stage=stage,
        inputs=len(planned),
        done=found.count(DONE),
        failed=found.count(FAILED),
        waiting=found.count(WAITING),
        stale=outdated,
        new=found.count(NEW) - outdated,
        due=found.count(DUE),
        left=left,
        seconds=None if seconds is None else seconds * left,
        bytes=None if size is None else round(size * left),
    )


def seconds_per_item(lake: Lake, stage: str) -> float | None:
    """Wall time of a piece of work in the latest runs of a stage, with the workers that they had."""
    entries = lake.read("ledger", ["run_id", "counts", "seconds", "committed_at"], f"stage = '{stage}'")
    runs = {entry["run_id"]: entry for entry in sorted(entries, key=lambda entry: entry["committed_at"])}
    measured = [(run["seconds"], items) for run in runs.values() if (items := _answered(json.loads(run["counts"])))]
    latest = measured[-RUNS:]
    return sum(s for s, _ in latest) / sum(n for _, n in latest) if latest else None


def bytes_per_item(lake: Lake, stage: str) -> float | None:
    """Size of what a stage stored over the pieces of work that it stands for."""
    done = pc.count_distinct(lake.column(stage, "work_key")).as_py()
    tables = WRITES.get(stage, (stage,))
    size = sum(sum(lake.store.sizes(f"tables/{table}.lance/data").values()) for table in tables)
    return size / done if done else None


def _answered(counts: dict[str, object]) -> int:
    done, rejected = counts.get("done", 0), counts.get("rejected", {})
    assert isinstance(done, int) and isinstance(rejected, dict)
    return done + sum(rejected.values())
