"""The pairs that a stage may draw from, grouped as they are drawn: by cell, then by target window."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

import numpy as np
from numpy.typing import NDArray

from opendimo.training.release import Pair, Pairs
from opendimo.training.sampling import Cell, Stretch, available, draw, driver_at, weights_of, window_at
from opendimo.training.stages import Schedule, StagePoint, stage_at

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Windows:
    """The pairs of a cell by target window: those of window w are `rows[starts[w] : starts[w + 1]]`."""

    rows: Rows
    starts: Rows

    def __len__(self) -> int:
        return len(self.starts) - 1


class Pool:
    """Draws of pairs, each a pure function of its arguments and of the pairs."""

    def __init__(self, pairs: Pairs) -> None:
        self.pairs = pairs
        self.cells = _cells(pairs)

    def mix(self, point: StagePoint) -> dict[str, float]:
        """The shares of the kinds of pairs in a stage, of those that there are. Raises `ValueError` where there are
        none."""
        return available(point.mix, {kind: len(self._sources(point, kind)) for kind in point.mix})

    def choose(self, step: int, schedule: Schedule, batch: int, seed: int) -> Rows:
        """The pairs of the batch of `step`, as rows. Raises `ValueError` as `mix` and outside the schedule."""
        drawn = draw(self._stretches(schedule, batch), step * batch, batch)
        return np.array([self._row(cell, position, seed) for cell, position in drawn])

    def fixed(self, kind: str, count: int, seed: int, sources: Sequence[str] | None = None) -> Rows:
        """`count` pairs of a kind, always the same, spread over captures: one of each capture before a second of any.

        A pair comes twice only where there are fewer than `count`. `sources`: from these kinds of sources alone.
        Raises `ValueError` where there are no such pairs.
        """
        cells = [w.rows for (k, s), w in self.cells.items() if k == kind and (sources is None or s in sources)]
        if not cells:
            raise ValueError(f"there are no {kind} pairs from {' or '.join(sources or ['any source'])}")
        rows = np.sort(np.concatenate(cells))
        rows = np.random.default_rng([seed, *kind.encode()]).permutation(rows)
        captures = self.pairs.codes("capture_id")[rows]
        order = np.argsort(captures, kind="stable")
        ranked = captures[order]
        ranks = np.empty_like(order)  # how many of the same capture come before each
        ranks[order] = np.arange(len(rows)) - np.searchsorted(ranked, ranked)
        return np.resize(rows[np.argsort(ranks, kind="stable")], count)

    def other_driver(self, pair: Pair, seed: int) -> int:
        """Return a pair, as row, of the window length of `pair` and of another capture, of whatever kind; of another
        known subject where there is one, else of one that may be another. Raises `ValueError` where there is none."""
        pairs = self.pairs
        alike = np.ones(len(pairs), bool)
        for name in ("num_frames", "frame_step"):
            alike &= pairs.numbers(name) == getattr(pair, name)
        alike &= pairs.codes("capture_id") != _code(pairs, "capture_id", pair.capture_id)
        if not alike.any():
            raise ValueError(f"no pair of another capture than {pair.capture_id!r} is as long as its window")
        subjects = pairs.codes("subject")
        may_differ = alike & (subjects != _code(pairs, "subject", pair.subject)) if pair.subject else alike
        differs = may_differ & (subjects >= 0) & (pair.subject is not None)
        rows = next(np.flatnonzero(rows) for rows in (differs, may_differ, alike) if rows.any())
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
        """Weights of the sources of a kind: as stated, or else their numbers of target windows."""
        sizes = {source: len(self.cells[kind, source]) for source in point.sources if (kind, source) in self.cells}
        if not point.source_shares:
            return sizes
        return weights_of({source: share for source, share in point.source_shares if source in sizes})


def _cells(pairs: Pairs) -> dict[Cell, Windows]:
    kinds, sources, windows = (pairs.codes(name) for name in ("kind", "source_kind", "latent_id"))
    rows = np.lexsort((windows, sources, kinds))  # within a window in the order of pairs
    names = [pairs.texts(name).to_pylist() for name in ("kind", "source_kind")]
    cells = {}
    for part in _runs(kinds[rows], sources[rows]):
        own = rows[part]
        starts = [run.start for run in _runs(windows[own])]
        cell = names[0][kinds[own[0]]], names[1][sources[own[0]]]
        cells[cell] = Windows(own, np.array([*starts, len(own)]))
    return cells


def _runs(*columns: NDArray[np.int32]) -> list[slice]:
    """Where sorted columns keep one value."""
    changes = np.any([column[1:] != column[:-1] for column in columns], axis=0)
    bounds = [0, *(np.flatnonzero(changes) + 1).tolist(), len(columns[0])]
    return [slice(start, stop) for start, stop in pairwise(bounds) if start < stop]


def _code(pairs: Pairs, name: str, text: str | None) -> int:
    """The code of a text, -2 where no pair has it."""
    place = pairs.texts(name).index(text).as_py()
    return place if place >= 0 else -2
