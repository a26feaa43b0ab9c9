"""Groups of views: pairs that have one driving window and different target views, synchronous by construction."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from opendimo.training.release import Pairs

Rows = NDArray[np.int64]
WINDOW = ("driving_clip_id", "bucket", "driving_start", "num_frames", "frame_step")
"""Columns that are equal within a group."""


class ViewGroups:
    """The groups of at least `views` pairs; `rows`: the rows of `pairs` that are in one, in their order."""

    def __init__(self, pairs: Pairs, views: int) -> None:
        self.views = views
        columns = [pairs.codes(name) if name in WINDOW[:2] else pairs.numbers(name) for name in WINDOW]
        order = np.lexsort(columns)
        changes = np.any([column[order][1:] != column[order][:-1] for column in columns], axis=0)
        starts = np.concatenate([[0], np.flatnonzero(changes) + 1, [len(order)]]).astype(np.int64)
        self._order = order.astype(np.int64)
        self._group = np.empty(len(order), np.int64)
        self._group[order] = np.repeat(np.arange(len(starts) - 1), np.diff(starts))
        self._starts = starts
        self.rows: Rows = np.flatnonzero(np.diff(starts)[self._group] >= views)

    def expanded(self, rows: Sequence[int] | Rows, step: int, seed: int) -> Rows:
        """Return, for each of `rows`, itself and then `views - 1` others of its group, [n views].

        Which others is a pure function of the row, the number of its slot, `step` and `seed`.
        """
        result = []
        for slot, row in enumerate(rows):
            group = self._group[row]
            others = self._order[self._starts[group] : self._starts[group + 1]]
            others = np.sort(others[others != row])
            rng = np.random.default_rng([seed, step, slot])
            result.append([int(row), *rng.choice(others, self.views - 1, replace=False).tolist()])
        return np.array(result, np.int64).reshape(-1)
