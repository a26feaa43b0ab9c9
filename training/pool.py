"""Deterministic sampling of pairs, grouped by cell (kind of pair, kind of source, bucket) and then by target window.

If samples are views of one moment (`training.groups`), the first view of each group is drawn like a single pair, from
those with enough other views; the others follow it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import accumulate, pairwise
from math import lcm

import numpy as np
from numpy.typing import NDArray

from opendimo.training.groups import ViewGroups
from opendimo.training.release import Pair, Pairs
from opendimo.training.sampling import Mix, Phase, available, draw_batch, driver_at, weights_of, window_at
from opendimo.training.schedule import Schedule, StagePoint, stage_at

Rows = NDArray[np.int64]
Key = tuple[str, str, str]
"""Kind of pair, kind of source, bucket."""
KEY_COLUMNS = ("kind", "source_kind", "bucket")


@dataclass(frozen=True)
class Windows:
    """Pairs of a cell grouped by target window: the pairs of window w are `rows[starts[w] : starts[w + 1]]`."""

    rows: Rows
    starts: Rows

    def __len__(self) -> int:
        return len(self.starts) - 1


class Pool:
    """Draw pairs; every draw is a pure function of its arguments and of the pairs.

    `views`: draw groups of so many views, for the stages that train on these.
    """

    def __init__(self, pairs: Pairs, views: int = 1) -> None:
        self.pairs, self.views = pairs, views
        self._groups = ViewGroups(pairs, views) if views > 1 and len(pairs) else None
        self.cells = _cells(pairs, np.arange(len(pairs)) if self._groups is None else self._groups.rows)
        self.buckets = sorted({bucket for _, _, bucket in self.cells})

    def mix(self, point: StagePoint) -> dict[str, float]:
        """Return the share of each kind of pair in a stage, renormalised over the kinds that have pairs.

        Raises `ValueError` if none has.
        """
        return available(point.mix, {kind: len(self._shares(point, kind)) for kind in point.mix})

    def choose(self, step: int, schedule: Schedule, batch: int, seed: int) -> Rows:
        """Return the rows of the batch of `step`, which are of one bucket; the views of a group follow each other.

        Raises the `ValueError` of `mix`, and one outside the stages with as many views.
        """
        phases, done, number = list[Phase](), 0, None  # steps are counted over the stages with as many views
        for stage, (start, end) in zip(
            schedule.stages, pairwise(accumulate(schedule.stage_steps, initial=0)), strict=True
        ):
            if stage.views != self.views or start > step:
                continue
            phases.append(self._phase(stage_at(start, schedule), done, done + stage.steps))
            number = done + step - start if step < end else None
            done += stage.steps
        if number is None:
            raise ValueError(f"step {step} is outside the stages of the schedule with {self.views} views")
        bucket, drawn = draw_batch(phases, number, batch // self.views)
        rows = np.array([self._row((kind, source, bucket), position, seed) for (kind, source), position in drawn])
        return rows if self._groups is None else self._groups.expanded(rows, step, seed)

    def fixed(self, kind: str, count: int, seed: int, sources: Sequence[str] | None = None) -> Rows:
        """Return `count` rows of a kind, of any bucket, always the same ones: one of each capture before a second.

        Pairs repeat only if there are fewer than `count`. `sources`: use only these kinds of sources. Raises
        `ValueError` if there are no such pairs.
        """
        cells = [w.rows for (k, s, _), w in self.cells.items() if k == kind and (sources is None or s in sources)]
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
        """Return the row of a pair of any kind with the bucket and frame step of `pair` but from another capture.

        It prefers pairs of a known other subject, then those whose subject is unknown, then any. Raises `ValueError` if
        no pair matches.
        """
        pairs = self.pairs
        candidates = np.ones(len(pairs), bool)
        for name in ("num_frames", "frame_step"):
            candidates &= pairs.numbers(name) == getattr(pair, name)
        candidates &= pairs.codes("bucket") == _code(pairs, "bucket", pair.bucket)
        candidates &= pairs.codes("capture_id") != _code(pairs, "capture_id", pair.capture_id)
        if not candidates.any():
            raise ValueError(f"no pair from another capture than {pair.capture_id!r} has the same bucket")
        subjects = pairs.codes("subject")
        may_differ = candidates
        if pair.subject:
            may_differ = candidates & (subjects != _code(pairs, "subject", pair.subject))
        differs = may_differ & (subjects >= 0) & (pair.subject is not None)
        rows = next(np.flatnonzero(rows) for rows in (differs, may_differ, candidates) if rows.any())
        rng = np.random.default_rng([seed, *pair.pair_id.encode()])
        captures = pairs.codes("capture_id")[rows]
        return int(rng.choice(rows[captures == rng.choice(np.unique(captures))]))

    def _row(self, key: Key, position: int, seed: int) -> int:
        windows = self.cells[key]
        cell = key if len(self.buckets) > 1 else key[:2]  # the order of a single bucket does not depend on its name
        window, visit = window_at(seed, cell, position, len(windows))
        start, stop = windows.starts[window : window + 2].tolist()
        return int(windows.rows[start + driver_at(seed, cell, window, visit, stop - start)])

    def _phase(self, point: StagePoint, start: int, stop: int) -> Phase:
        """Return the buckets of a stage, and the mix in each, so that kinds and sources have their shares over all."""
        mix = self.mix(point)
        shares = {kind: self._shares(point, kind) for kind in mix}
        mixes, weights = {}, {}
        for bucket in self.buckets:
            parts = {kind: self._parts(kind, shares[kind], bucket) for kind in mix}
            kinds = {kind: mix[kind] * float(sum(parts[kind].values())) for kind in mix if parts[kind]}
            weights[bucket] = sum(kinds.values())
            mixes[bucket] = Mix(weights_of(kinds), {kind: _whole(parts[kind]) for kind in kinds})
        return Phase(start, stop, weights_of(weights), mixes)

    def _shares(self, point: StagePoint, kind: str) -> dict[str, Fraction]:
        """Return the share of each source of a kind: `source_shares`, or by default by its number of target windows."""
        sizes = {source: self._size(kind, source) for source in point.sources if self._size(kind, source)}
        weights = sizes
        if point.source_shares:
            weights = weights_of({source: share for source, share in point.source_shares if source in sizes})
        return {source: Fraction(weight, sum(weights.values())) for source, weight in weights.items()}

    def _parts(self, kind: str, shares: dict[str, Fraction], bucket: str) -> dict[str, Fraction]:
        """Return the part of a kind's draws that each source gets within a bucket: by its target windows there."""
        sizes = {source: len(w) for source in shares if (w := self.cells.get((kind, source, bucket)))}
        return {source: shares[source] * Fraction(size, self._size(kind, source)) for source, size in sizes.items()}

    def _size(self, kind: str, source: str) -> int:
        """Return the number of target windows of a kind and source, in all buckets."""
        return sum(len(windows) for (k, s, _), windows in self.cells.items() if (k, s) == (kind, source))


def _whole(parts: dict[str, Fraction]) -> dict[str, int]:
    """Return integers in the same proportions."""
    scale = lcm(*(part.denominator for part in parts.values()))
    return {name: int(part * scale) for name, part in parts.items()}


def _cells(pairs: Pairs, chosen: Rows) -> dict[Key, Windows]:
    """Return the cells of the rows `chosen`."""
    codes = [pairs.codes(name) for name in KEY_COLUMNS]
    names = [pairs.texts(name).to_pylist() for name in KEY_COLUMNS]
    windows = pairs.codes("latent_id")
    order = np.lexsort((windows[chosen], *(column[chosen] for column in reversed(codes))))
    rows = chosen[order]  # stable: pairs of a window keep their order
    cells = {}
    for part in _runs(*(column[rows] for column in codes)):
        cell_rows = rows[part]
        starts = [run.start for run in _runs(windows[cell_rows])]
        kind, source, bucket = (texts[column[cell_rows[0]]] for texts, column in zip(names, codes, strict=True))
        cells[kind, source, bucket] = Windows(cell_rows, np.array([*starts, len(cell_rows)]))
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
