"""What pieces of work took, by the ledger; and what that says about others."""

import json
from dataclasses import dataclass
from typing import Any

import numpy as np

from opendimo.pipelines.progress.sizes import Sizes, stored_sizes
from opendimo.storage_schemas.lake.lake import Lake

RUNS = 5  # the latest ones of which the clocks count
STUDENT = (6.31, 2.92, 2.35, 2.13, 2.02)
"""Quantiles of Student's distribution by degrees of freedom, from 1: an interval that holds nine times of ten."""
NORMAL, TAIL = 1.645, 1.65  # the same for more of them, to 0.01: the normal distribution's, and over their number

Span = tuple[float, float, float]
"""An estimate, and from where to where it may be."""


@dataclass(frozen=True)
class Rates:
    """`sizes` and `seconds` of pieces of work in the latest `runs`; `at_once`: how many were in work at a time;
    `start`: seconds of a run in which none was, 0 where nobody knows. `alike`: with the version and config that are
    planned."""

    sizes: Sizes
    seconds: np.ndarray
    runs: int
    at_once: float
    start: float
    alike: bool

    def units(self, sizes: Sizes) -> np.ndarray:
        """The units of pieces of work; where they are not known, the mean of those measured, if it can be of the same
        sort."""
        known = np.isfinite(self.sizes.units)
        units = sizes.units.copy()
        for sort in set(sizes.sorts[np.isnan(units)]):
            alike = known & (self.sizes.sorts == sort)
            alike = alike if alike.any() else known
            mean = float(self.sizes.units[alike].mean()) if alike.any() else 1.0
            units[np.isnan(units) & (sizes.sorts == sort)] = mean
        return units

    def time(self, wanted: Sizes) -> Span:
        """Seconds for other pieces of work, with the workers of those runs."""
        if not len(wanted):
            return 0.0, 0.0, 0.0
        total, low, high = (sum(part) for part in zip(*self._by_sort(wanted), strict=True))
        return tuple(self.start + seconds / self.at_once for seconds in (total, low, high))  # type: ignore[return-value]

    def _by_sort(self, wanted: Sizes) -> list[Span]:
        units, measured = self.units(wanted), self.units(self.sizes)
        found = []
        for sort in set(wanted.sorts):
            own = self.sizes.sorts == sort
            known = own if own.any() else np.ones(len(self.seconds), bool)  # the best there is
            there = wanted.sorts == sort
            found.append(_scaled(measured[known], self.seconds[known], float(units[there].sum()), int(there.sum())))
        return found


def measured(lake: Lake, stage: str, revision: str, trial_of: Lake | None = None) -> Rates | None:
    """What the latest runs of a stage tell, those of this `revision` if there are any; None where none tells anything.

    What was replaced since is left out. `trial_of`: they only were to measure what is in another lake, so that workers
    that had nothing left to do before the others mean nothing, nor does how long they took to start.
    """
    entries = lake.read("ledger", ["run_id", "counts", "config", "committed_at"], f"stage = '{stage}'")
    by_run = {entry["run_id"]: entry for entry in sorted(entries, key=lambda entry: entry["committed_at"])}
    runs = [run for run in map(_read, by_run.values()) if run["counts"].get("seconds")]
    alike = [run for run in runs if run["config"].get("revision", "") == revision]
    latest = (alike or runs)[-RUNS:]
    took: dict[str, float] = {key: taken for run in latest for key, taken in run["counts"]["seconds"].items()}
    keys, sizes = stored_sizes(lake, stage, trial_of or lake, list(took)) if took else ([], None)
    if not keys or sizes is None:
        return None
    counts = [run["counts"] for run in latest]
    at_once = max(found["most"] if trial_of else found["busy"] / max(found["active"], 1e-4) for found in counts)
    # not what is left of a run's wall time: a run that was stopped and resumed has the time between in it
    start = 0.0 if trial_of else min((found["idle"] for found in counts if "idle" in found), default=0.0)
    seconds = np.array([took[key] for key in keys])
    return Rates(sizes, seconds, len(latest), max(1.0, at_once), start, bool(alike))


def _read(entry: dict[str, Any]) -> dict[str, Any]:
    return {**entry, "counts": json.loads(entry["counts"]), "config": json.loads(entry["config"])}


def _scaled(units: np.ndarray, seconds: np.ndarray, wanted: float, count: int) -> Span:
    """Seconds for `count` pieces of work of `wanted` units in all, where others of these `units` took `seconds`.

    The rate is the ratio of the sums. How far single ones are from it says how far the sum may be; but all will not be
    faster than the fastest that was measured.
    """
    rate = seconds.sum() / units.sum()
    estimate, fastest = rate * wanted, float((seconds / units).min()) * wanted
    if len(seconds) == 1:
        return estimate, estimate, estimate
    freedom = len(seconds) - 1
    spread = ((seconds - rate * units) ** 2).sum() / freedom
    share = wanted / units.sum()
    quantile = STUDENT[freedom - 1] if freedom <= len(STUDENT) else NORMAL + TAIL / freedom
    margin = quantile * float(np.sqrt(spread * (count + share**2 * len(seconds))))
    return estimate, max(fastest, estimate - margin), estimate + margin
