"""Deterministic sampling of pairs, grouped by cell (kind of pair, kind of source) and then by target window."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

import numpy as np
from numpy.typing import NDArray

from opendimo.training.release import Pair, Pairs
from opendimo.training.sampling import Cell, Stretch, available, draw, driver_at, weights_of, window_at
from opendimo.training.schedule import Schedule, StagePoint, stage_at

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Windows:
    """Pairs of a cell grouped by target window: the pairs of window w are `rows[starts[w] : starts[w + 1]]`."""

    rows: Rows
    starts: Rows

    def __len__(self) -> int:
        return len(self.starts) - 1


class Pool:
    """Draw pairs; every draw is a pure function of its arguments and of the pairs."""

    def __init__(self, pairs: Pairs) -> None:
        self.pairs = pairs
        self.cells = _cells(pairs)

    def mix(self, point: StagePoint) -> dict[str, float]:
        """Return the share of each kind of pair in a stage, renormalised over the kinds that have pairs.

        Raises `ValueError` if none has.
        """
        return available(point.mix, {kind: len(self._sources(point, kind)) for kind in point.mix})

    def choose(self, step: int, schedule: Schedule, batch: int, seed: int) -> Rows:
        """Return the rows of the batch of `step`. Raises the `ValueError` of `mix`, and one outside the schedule."""
        drawn = draw(self._stretches(schedule, batch), step * batch, batch)
        return np.array([self._row(cell, position, seed) for cell, position in drawn])

    def fixed(self, kind: str, count: int, seed: int, sources: Sequence[str] | None = None) -> Rows:
        """Return `count` rows of a kind, always the same ones: one of each capture before a second of any.

        Pairs repeat only if there are fewer than `count`. `sources`: use only these kinds of sources. Raises
        `ValueError` if there are no such pairs.
        """
        cells = [w.rows for (k, s), w in self.cells.items() if k == kind and (sources is None or s in sources)]
        if not cells:
            raise ValueError(f"there are no {kind} pairs from {' or '.join(sources or ['any source'])}")
        rows = np.sort(np.concatenate(cells))
        rows = np.random.default_rng([seed, *kind.encode()]).permutation(rows)
        captures = self.pairs.codes("capture_id")[rows]
        order = np.argsort(captures, kind="stable")
        ordered = captures[order]
        ranks = np.empty_like(order)  # number of earlier rows of the same capture
        ranks[order] = np.arange(len(rows)) - np.searchsorted(ordered, ordered)
        return np.resize(rows[np.argsort(ranks, kind="stable")], count)

    def other_driver(self, pair: Pair, seed: int) -> int:
        """Return the row of a pair of any kind with the window length of `pair` but from another capture.

        It prefers pairs of a known other subject, then those whose subject is unknown, then any. Raises `ValueError` if
        no pair matches.
        """
        pairs = self.pairs
        candidates = np.ones(len(pairs), bool)
        for name in ("num_frames", "frame_step"):
            candidates &= pairs.numbers(name) == getattr(pair, name)
        candidates &= pairs.codes("capture_id") != _code(pairs, "capture_id", pair.capture_id)
        if not candidates.any():
            raise ValueError(f"no pair from another capture than {pair.capture_id!r} has the same window length")
        subjects = pairs.codes("subject")
        may_differ = candidates
        if pair.subject:
            may_differ = candidates & (subjects != _code(pairs, "subject", pair.subject))
        differs = may_differ & (subjects >= 0) & (pair.subject is not None)
        rows = next(np.flatnonzero(rows) for rows in (differs, may_differ, candidates) if rows.any())
        rng = np.random.default_rng([seed, *pair.pair_id.encode()])
        captures = pairs.codes("capture_id")[rows]
        return int(rng.choice(rows[captures == rng.choice(np.unique(captures))]))

    def _row(self, cell: Cell, position: int, seed: int) -> int:
        windows = self.cells[cell]
        window, visit = window_at(seed, cell, position, len(windows))
        start, stop = windows.starts[window : window + 2].tolist()
        return int(windows.rows[start + driver_at(seed, cell, window, visit, stop - start)])

    def _stretches(self, schedule: Schedule, batch: int) -> list[Stretch]:
        ends = accumulate(schedule.stage_steps, initial=0)
        return [self._stretch(stage_at(start, schedule), start * batch, end * batch) for start, end in pairwise(ends)]

    def _stretch(self, point: StagePoint, start: int, stop: int) -> Stretch:
        kinds = weights_of(self.mix(point))
        return Stretch(start, stop, kinds, {kind: self._sources(point, kind) for kind in kinds})

    def _sources(self, point: StagePoint, kind: str) -> dict[str, int]:
        """Return the weight of each source of a kind: `source_shares`, or by default its number of target windows."""
        sizes = {source: len(self.cells[kind, source]) for source in point.sources if (kind, source) in self.cells}
        if not point.source_shares:
            return sizes
        return weights_of({source: share for source, share in point.source_shares if source in sizes})


def _cells(pairs: Pairs) -> dict[Cell, Windows]:
    kinds, sources, windows = (pairs.codes(name) for name in ("kind", "source_kind", "latent_id"))
    rows = np.lexsort((windows, sources, kinds))  # stable: pairs of a window keep their order
    names = [pairs.texts(name).to_pylist() for name in ("kind", "source_kind")]
    cells = {}
    for part in _runs(kinds[rows], sources[rows]):
        cell_rows = rows[part]
        starts = [run.start for run in _runs(windows[cell_rows])]
        cell = names[0][kinds[cell_rows[0]]], names[1][sources[cell_rows[0]]]
        cells[cell] = Windows(cell_rows, np.array([*starts, len(cell_rows)]))
    return cells


def _runs(*columns: NDArray[np.int32]) -> list[slice]:
    """Return the ranges of rows in which no column changes; `columns` are sorted."""
    changes = np.any([column[1:] != column[:-1] for column in columns], axis=0)
    bounds = [0, *(np.flatnonzero(changes) + 1).tolist(), len(columns[0])]
    return [slice(start, stop) for start, stop in pairwise(bounds) if start < stop]


def _code(pairs: Pairs, name: str, text: str | None) -> int:
    """Return the code of a text, or -2 if no pair has it (`Pairs.codes` uses -1 for null)."""
    code = pairs.texts(name).index(text).as_py()
    return code if code >= 0 else -2
