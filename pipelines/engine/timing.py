"""How long work took: what the ledger keeps of a run's clocks, so that the next run can be estimated."""

from collections.abc import Sequence
from typing import Any

import numpy as np

KEPT = 64  # pieces of work of a run whose time is kept: by work keys, which are hashes, so a fair sample


def spent(times: Sequence[tuple[str, Sequence[int]]], driven: tuple[int, int] | None = None) -> dict[str, Any]:
    """Entries of a run's `counts`; `times` are work keys, each with when it began and ended (nanoseconds since 1970).
    `driven`: from when to when its last driver drove it.

    `busy`: seconds of all pieces of work together; `active`: seconds in which at least one was in work, so that
    busy / active of them were at a time. Neither counts the start of workers or a time in which nobody drove the run.
    `most`: how many were at a time at most. `seconds`: of `KEPT` pieces of work each. `idle`: seconds in which that
    driver waited for workers or for the store, as none was in work; missing where all work was done before it came.
    Empty where nobody looked at the clock.
    """
    if not times:
        return {}
    spans = np.array([span for _, span in times], np.int64)
    spans = spans[np.argsort(spans[:, 0])]
    kept = {key: _seconds(end - start) for key, (start, end) in sorted(times)[:KEPT]}
    begun_before = np.searchsorted(spans[:, 0], spans[:, 0], side="right")
    ended_before = np.searchsorted(np.sort(spans[:, 1]), spans[:, 0], side="right")
    found = {
        "busy": _seconds((spans[:, 1] - spans[:, 0]).sum()),
        "active": _seconds(_active(spans)),
        "most": int((begun_before - ended_before).max()),
        "seconds": kept,
    }
    if driven is None or spans[:, 1].max() <= driven[0]:
        return found
    idle = driven[1] - driven[0] - _active(np.clip(spans, *driven))
    return {**found, "idle": _seconds(idle)}


def _active(spans: np.ndarray) -> int:
    """Nanoseconds in which at least one was in work, of spans in the order in which they began."""
    reached = np.maximum.accumulate(np.concatenate([spans[:1, 0], spans[:-1, 1]]))
    return int(np.maximum(spans[:, 1] - np.maximum(spans[:, 0], reached), 0).sum())


def _seconds(nanoseconds: int | np.integer[Any]) -> float:
    return round(float(nanoseconds) / 1e9, 4)
