"""Summarise how long the work of a run took, for the ledger; `dimo plan` estimates later runs from it."""

from collections.abc import Sequence
from typing import Any

import numpy as np

KEPT = 64  # pieces of work per run whose time is stored: lowest work keys; these are hashes, so a random sample


def run_timing(times: Sequence[tuple[str, Sequence[int]]], driven: tuple[int, int] | None = None) -> dict[str, Any]:
    """Return the timing entries of a run's `counts`; empty if `times` is.

    `times`: work keys with the begin and end of each, in nanoseconds since 1970. `driven`: begin and end of the run's
    last driver.

    Entries: `busy`: total seconds over all pieces of work. `active`: seconds in which at least one piece of work was
    running, so busy / active is the mean concurrency; neither includes the start of workers or time without a driver.
    `most`: highest concurrency. `seconds`: duration of each of `KEPT` pieces of work, by work key. `idle`: seconds of
    the last driver in which no work ran, because it waited for workers or for the store; missing if all work ended
    before that driver started.
    """
    if not times:
        return {}
    spans = np.array([span for _, span in times], np.int64)
    spans = spans[np.argsort(spans[:, 0])]
    sampled_seconds = {key: _seconds(end - start) for key, (start, end) in sorted(times)[:KEPT]}
    begun_before = np.searchsorted(spans[:, 0], spans[:, 0], side="right")
    ended_before = np.searchsorted(np.sort(spans[:, 1]), spans[:, 0], side="right")
    timing = {
        "busy": _seconds((spans[:, 1] - spans[:, 0]).sum()),
        "active": _seconds(_active(spans)),
        "most": int((begun_before - ended_before).max()),
        "seconds": sampled_seconds,
    }
    if driven is None or spans[:, 1].max() <= driven[0]:
        return timing
    idle = driven[1] - driven[0] - _active(np.clip(spans, *driven))
    return {**timing, "idle": _seconds(idle)}


def _active(spans: np.ndarray) -> int:
    """Return the length of the union of `spans` [n, 2], in nanoseconds. They must be sorted by their begin."""
    reached = np.maximum.accumulate(np.concatenate([spans[:1, 0], spans[:-1, 1]]))
    return int(np.maximum(spans[:, 1] - np.maximum(spans[:, 0], reached), 0).sum())


def _seconds(nanoseconds: int | np.integer[Any]) -> float:
    return round(float(nanoseconds) / 1e9, 4)
