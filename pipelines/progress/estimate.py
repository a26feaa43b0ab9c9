"""What a run of a stage would do, how long it would take and how much it would store."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow.compute as pc

from opendimo.pipelines.engine.planned import Planned
from opendimo.pipelines.engine.work_status import DONE, DUE, FAILED, NEW, WAITING, open_failures, stale, standing
from opendimo.pipelines.progress.rates import Rates, measured
from opendimo.pipelines.progress.sample import Tried
from opendimo.pipelines.progress.sizes import DOWNLOAD, DOWNLOAD_START, Sizes, sizes_of
from opendimo.storage_schemas.lake.lake import Lake

WRITES = {"sources": ("sources", "captures"), "clips": ("clips", "clip_videos", "fingerprints")}
"""Tables of the stages that fill more than one."""
LATER = {"clips": "sources", "duplicates": "clips", "rigs": "sources"}
"""Stages of which work comes up while sources are taken in, and the stage that makes it."""


@dataclass(frozen=True)
class Forecast:
    """Pieces of work of a plan: `inputs = done + failed + waiting + left`, `left = new + stale + due`.

    `stale`: there are rows of the item, but of another version, config or input. `due`: it failed, and is tried again.
    `later`: pieces that are no work yet, but will be when what is left of the sources is there.
    `seconds` (from `least` to `most`, nine of ten times if those measured are like the rest; None where one piece alone
    was measured) and `bytes` are estimates for what is left and comes later, None where nothing was measured. They rest
    on `measured` pieces of work of `runs` runs, or `tried` for this forecast; `basis` says that in words.
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
    """What a run of a plan would do now. Writes nothing.

    `tried`: a trial, which counts instead of runs in the lake, as there were none. `before`: what would be done of the
    stages before, which will make work for this one.
    """
    found = standing(lake, stage, planned, time.time_ns())
    outdated, left = stale(lake, stage, found), found.left
    told, items, known = (tried.away, tried.items, tried.planned) if tried else (lake, lake, planned)
    rates = measured(told, stage, planned.revision, items if tried else None)
    wanted, later = sizes_of(lake, stage, planned, left), _later(items, stage, known, before)
    if rates is not None and later:
        more = Sizes(np.resize(rates.sizes.sorts, later), np.resize(rates.sizes.units, later))  # like those measured
        wanted = Sizes(np.concatenate([wanted.sorts, more.sorts]), np.concatenate([wanted.units, more.units]))
    seconds, least, most = rates.time(wanted) if rates else (None, None, None)
    sure = rates is not None and len(rates.seconds) > 1
    return Forecast(
        stage=stage,
        inputs=len(planned),
        done=found.count(DONE),
        failed=found.count(FAILED),
        waiting=found.count(WAITING),
        stale=outdated,
        new=found.count(NEW) - outdated,
        due=found.count(DUE),
        left=len(left),
        later=later,
        seconds=seconds,
        least=least if sure else None,
        most=most if sure else None,
        bytes=None if rates is None else _bytes(told, stage, rates, wanted),
        measured=0 if rates is None else len(rates.seconds),
        runs=0 if rates is None else rates.runs,
        tried=bool(tried and rates),
        basis=_basis(rates, tried),
    )


def _later(items: Lake, stage: str, planned: Planned, before: Sequence[Forecast]) -> int:
    """The work that comes up while sources are taken in: as much for each piece of the stage that makes it as a plan
    has for those in the lake `items`. Sources that are stale have made theirs already."""
    if stage not in LATER:
        return 0
    made_by = LATER[stage]
    coming = sum(f.new + f.due if made_by == "sources" else f.later for f in before if f.stage == made_by)
    return round(coming * len(planned) / max(1, _answered(items, made_by)))


def _answered(lake: Lake, stage: str) -> int:
    """Pieces of work of a stage that are done or failed."""
    done = pc.count_distinct(lake.column(stage, "work_key")).as_py()
    return int(done) + open_failures(lake, f"stage = '{stage}'", []).num_rows


def _bytes(lake: Lake, stage: str, rates: Rates, wanted: Sizes) -> int:
    """What would be stored, by what a unit of the work that is done takes in the tables; and the files downloaded."""
    done = pc.count_distinct(lake.column(stage, "work_key")).as_py()
    tables = WRITES.get(stage, (stage,))
    stored = sum(sum(lake.store.sizes(f"tables/{table}.lance/data").values()) for table in tables)
    units = rates.units(wanted)
    downloads = (units - DOWNLOAD_START)[wanted.sorts == DOWNLOAD].sum() if stage == "sources" else 0.0
    return round(stored * units.sum() / (done * rates.units(rates.sizes).mean()) + downloads)


def _basis(rates: Rates | None, tried: Tried | None) -> str:
    if rates is None:
        return "no run yet: try --sample 4" if tried is None else _in_vain(tried)
    count = len(rates.seconds)
    text = f"{count} item{'s' * (count != 1)}"
    if tried:
        return f"{text} tried"
    text += f" of {rates.runs} run{'s' * (rates.runs != 1)}"
    return text if rates.alike else f"{text} with another version or config"


def _in_vain(tried: Tried) -> str:
    """Why a trial tells nothing."""
    if tried.late:
        return "nothing ended in time: raise --sample-minutes"
    return "what was tried failed" if tried.count else "no run yet, and nothing to try"
