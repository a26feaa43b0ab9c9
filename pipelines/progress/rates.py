"""Read the measured durations of work from the ledger, and extrapolate them to other work."""

import json
from dataclasses import dataclass
from typing import Any

import numpy as np

from opendimo.pipelines.progress.sizes import Sizes, stored_sizes
from opendimo.storage_schemas.lake.lake import Lake

RUNS = 5  # number of latest runs that are used
STUDENT = (6.31, 2.92, 2.35, 2.13, 2.02)
"""95 % quantiles of Student's t distribution for 1, 2, ... degrees of freedom: two-sided 90 % intervals."""
NORMAL, TAIL = 1.645, 1.65  # for more degrees of freedom n the quantile is NORMAL + TAIL / n, to 0.01

Span = tuple[float, float, float]
"""An estimate with its lower and upper limit."""


@dataclass(frozen=True)
class Rates:
    """Measured rates of a stage.

    `sizes` and `seconds`: of pieces of work in the latest `runs`. `at_once`: concurrency. `start`: seconds of a run in
    which no work ran, 0 if unknown. `alike`: whether the runs have the version and config that are planned.
    """

    sizes: Sizes
    seconds: np.ndarray
    runs: int
    at_once: float
    start: float
    alike: bool

    def units(self, sizes: Sizes) -> np.ndarray:
        """Return the units of `sizes`; unknown ones are replaced by the mean of the measured ones, of the same sort if
        there are any."""
        known = np.isfinite(self.sizes.units)
        units = sizes.units.copy()
        for sort in set(sizes.sorts[np.isnan(units)]):
            same_sort = known & (self.sizes.sorts == sort)
            same_sort = same_sort if same_sort.any() else known
            mean = float(self.sizes.units[same_sort].mean()) if same_sort.any() else 1.0
            units[np.isnan(units) & (sizes.sorts == sort)] = mean
        return units

    def time(self, wanted: Sizes) -> Span:
        """Estimate the seconds for other pieces of work, with the concurrency of the measured runs."""
        if not len(wanted):
            return 0.0, 0.0, 0.0
        total, low, high = (sum(part) for part in zip(*self._by_sort(wanted), strict=True))
        return tuple(self.start + seconds / self.at_once for seconds in (total, low, high))  # type: ignore[return-value]

    def _by_sort(self, wanted: Sizes) -> list[Span]:
        units, measured = self.units(wanted), self.units(self.sizes)
        estimates = []
        for sort in set(wanted.sorts):
            same_sort = self.sizes.sorts == sort
            reference = same_sort if same_sort.any() else np.ones(len(self.seconds), bool)  # none of this sort: use all
            of_sort = wanted.sorts == sort
            estimates.append(
                _extrapolated(
                    measured[reference], self.seconds[reference], float(units[of_sort].sum()), int(of_sort.sum())
                )
            )
        return estimates


def measured(lake: Lake, stage: str, revision: str, trial_of: Lake | None = None) -> Rates | None:
    """Return the rates of the latest runs of a stage, of this `revision` if any; None if nothing was measured.

    Work whose rows were replaced since is ignored. `trial_of`: the runs were a sample of the items in this other lake.
    Then the highest concurrency is used, because workers may run out of sampled work early, and start-up time is
    ignored.
    """
    entries = lake.read("ledger", ["run_id", "counts", "config", "committed_at"], f"stage = '{stage}'")
    by_run = {entry["run_id"]: entry for entry in sorted(entries, key=lambda entry: entry["committed_at"])}
    runs = [run for run in map(_parsed_entry, by_run.values()) if run["counts"].get("seconds")]
    same_revision = [run for run in runs if run["config"].get("revision", "") == revision]
    latest = (same_revision or runs)[-RUNS:]
    seconds_by_key: dict[str, float] = {key: taken for run in latest for key, taken in run["counts"]["seconds"].items()}
    keys, sizes = stored_sizes(lake, stage, trial_of or lake, list(seconds_by_key)) if seconds_by_key else ([], None)
    if not keys or sizes is None:
        return None
    counts = [run["counts"] for run in latest]
    at_once = max(
        run_counts["most"] if trial_of else run_counts["busy"] / max(run_counts["active"], 1e-4)
        for run_counts in counts
    )
    # not wall time less busy time: if a run was stopped and resumed, that would include the time in between
    start = 0.0 if trial_of else min((run_counts["idle"] for run_counts in counts if "idle" in run_counts), default=0.0)
    seconds = np.array([seconds_by_key[key] for key in keys])
    return Rates(sizes, seconds, len(latest), max(1.0, at_once), start, bool(same_revision))


def _parsed_entry(entry: dict[str, Any]) -> dict[str, Any]:
    return {**entry, "counts": json.loads(entry["counts"]), "config": json.loads(entry["config"])}


def _extrapolated(units: np.ndarray, seconds: np.ndarray, total_units: float, count: int) -> Span:
    """Estimate the seconds for `count` pieces of work with `total_units` in total, from measured `units` and `seconds`.

    The rate is the ratio of the sums. The interval follows from the residuals of single pieces; its lower limit is
    bounded by the fastest measured rate.
    """
    rate = seconds.sum() / units.sum()
    estimate, fastest = rate * total_units, float((seconds / units).min()) * total_units
    if len(seconds) == 1:
        return estimate, estimate, estimate
    degrees = len(seconds) - 1
    spread = ((seconds - rate * units) ** 2).sum() / degrees
    share = total_units / units.sum()
    quantile = STUDENT[degrees - 1] if degrees <= len(STUDENT) else NORMAL + TAIL / degrees
    margin = quantile * float(np.sqrt(spread * (count + share**2 * len(seconds))))
    return estimate, max(fastest, estimate - margin), estimate + margin
