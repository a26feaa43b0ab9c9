"""Estimate the work, duration and storage of a run of a stage."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow.compute as pc

from opendimo.pipelines.engine.planned import Planned
from opendimo.pipelines.engine.work_status import DONE, DUE, FAILED, NEW, WAITING, open_failures, stale, work_status
from opendimo.pipelines.progress.rates import Rates, measured
from opendimo.pipelines.progress.sample import Tried
from opendimo.pipelines.progress.sizes import DOWNLOAD, DOWNLOAD_START, Sizes, sizes_of
from opendimo.storage_schemas.lake.lake import Lake

WRITES = {"sources": ("sources", "captures"), "clips": ("clips", "clip_videos", "fingerprints")}
"""Tables of the stages that write more than one."""
LATER = {"clips": "sources", "duplicates": "clips", "hands": "clips", "rigs": "sources"}
"""Stages whose work appears while sources are ingested, and the stage that produces their inputs."""


@dataclass(frozen=True)
class Forecast:
    """Counts of the work of a plan, and estimates for a run: `inputs = done + failed + waiting + left`,
    `left = new + stale + due`.

    `stale`: the item has rows, but of another version, config or input. `due`: failed, and will be retried. `later`:
    expected work that will exist once the remaining sources are ingested.

    `seconds` and `bytes` are estimates for `left` and `later`; None if nothing was measured. `least` to `most` is a
    90 % interval of `seconds`, if the measured work is representative; None if a single piece was measured. The
    estimates are based on `measured` pieces of work from `runs` runs, or, if `tried`, from a sample that was run for
    this forecast; `basis` describes that in words.
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
    later: int
    seconds: float | None
    least: float | None
    most: float | None
    bytes: int | None
    measured: int
    runs: int
    tried: bool
    basis: str


def forecast(
    lake: Lake, stage: str, planned: Planned, tried: Tried | None = None, before: Sequence[Forecast] = ()
) -> Forecast:
    """Forecast a run of a plan. Writes nothing.

    `tried`: a sample run, used instead of the runs in the lake, which has none. `before`: forecasts of earlier stages,
    which will produce work for this one.
    """
    status = work_status(lake, stage, planned, time.time_ns())
    outdated, left = stale(lake, stage, status), status.left
    measured_lake, items_lake, known_plan = (tried.away, tried.items, tried.planned) if tried else (lake, lake, planned)
    rates = measured(measured_lake, stage, planned.revision, items_lake if tried else None)
    remaining, later = sizes_of(lake, stage, planned, left), _expected_later(items_lake, stage, known_plan, before)
    if rates is not None and later:
        later_sizes = Sizes(
            np.resize(rates.sizes.sorts, later), np.resize(rates.sizes.units, later)
        )  # assume the measured sizes
        remaining = Sizes(
            np.concatenate([remaining.sorts, later_sizes.sorts]), np.concatenate([remaining.units, later_sizes.units])
        )
    seconds, least, most = rates.time(remaining) if rates else (None, None, None)
    has_interval = rates is not None and len(rates.seconds) > 1
    return Forecast(
        stage=stage,
        inputs=len(planned),
        done=status.count(DONE),
        failed=status.count(FAILED),
        waiting=status.count(WAITING),
        stale=outdated,
        new=status.count(NEW) - outdated,
        due=status.count(DUE),
        left=len(left),
        later=later,
        seconds=seconds,
        least=least if has_interval else None,
        most=most if has_interval else None,
        bytes=None if rates is None else _stored_bytes(measured_lake, stage, rates, remaining),
        measured=0 if rates is None else len(rates.seconds),
        runs=0 if rates is None else rates.runs,
        tried=bool(tried and rates),
        basis=_basis(rates, tried),
    )


def _expected_later(items: Lake, stage: str, planned: Planned, before: Sequence[Forecast]) -> int:
    """Estimate how much work will appear while sources are ingested.

    It assumes the ratio of planned work to completed work of the producing stage in the lake `items`. Stale sources are
    not counted: their work exists already.
    """
    if stage not in LATER:
        return 0
    source_stage = LATER[stage]
    upcoming = sum(f.new + f.due if source_stage == "sources" else f.later for f in before if f.stage == source_stage)
    return round(upcoming * len(planned) / max(1, _done_or_failed(items, source_stage)))


def _done_or_failed(lake: Lake, stage: str) -> int:
    """Count the work of a stage that is done or failed."""
    done = pc.count_distinct(lake.column(stage, "work_key")).as_py()
    return int(done) + open_failures(lake, f"stage = '{stage}'", []).num_rows


def _stored_bytes(lake: Lake, stage: str, rates: Rates, remaining: Sizes) -> int:
    """Estimate the bytes to store: table bytes per unit of completed work, plus downloaded files for `sources`."""
    done = pc.count_distinct(lake.column(stage, "work_key")).as_py()
    tables = WRITES.get(stage, (stage,))
    stored = sum(sum(lake.store.sizes(f"tables/{table}.lance/data").values()) for table in tables)
    units = rates.units(remaining)
    downloads = (units - DOWNLOAD_START)[remaining.sorts == DOWNLOAD].sum() if stage == "sources" else 0.0
    return round(stored * units.sum() / (done * rates.units(rates.sizes).mean()) + downloads)


def _basis(rates: Rates | None, tried: Tried | None) -> str:
    if rates is None:
        return "no run yet: try --sample 4" if tried is None else _why_no_estimate(tried)
    count = len(rates.seconds)
    text = f"{count} item{'s' * (count != 1)}"
    if tried:
        return f"{text} sampled"
    text += f" of {rates.runs} run{'s' * (rates.runs != 1)}"
    return text if rates.alike else f"{text} with another version or config"


def _why_no_estimate(tried: Tried) -> str:
    """Return why a sample run gives no estimate."""
    if tried.late:
        return "no sampled item finished in time: raise --sample-minutes"
    return "all sampled items failed" if tried.count else "no run yet, and no work left to sample"
