"""Choose the pairs of a batch as a pure function of (seed, step), so that resuming needs no sampler state.

Positions are absolute: a loader that counts from its last restart would replay data after a second one. The slots of
all batches are numbered from step 0 on, across stages. Each slot is assigned to a kind of pair and a kind of source by
their shares. Each (kind, source kind) is a cell, which iterates over its own target windows; its position is the number
of slots it has received since step 0. So no window is skipped, whatever the mix, and a stage continues where the
previous one stopped.

If targets have several shapes (buckets), every batch is of one bucket, because its samples are stacked. Batches are
assigned to buckets, and slots are numbered within each bucket; a cell is then a (kind, source kind, bucket). The
buckets of a stage, and the mix within each of them, follow from the shares of kinds and sources and from the numbers of
target windows, so that all windows of a (kind, source kind) are drawn equally often, whatever their bucket.

An epoch of a cell visits each of its target windows once, reshuffled every epoch. A window with several driving clips
uses the next one at each visit: every clip once before any twice, shuffled per window.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Cell = tuple[str, str]
"""Kind of pair, kind of source."""
SCALE = 1 << 40  # of integer weights


@dataclass(frozen=True)
class Mix:
    """Weights of the kinds of pairs, and weights of the sources of each kind.

    Weights are positive integers (`weights_of`), so that counts are exact; they need not be normalised.
    """

    kinds: Mapping[str, int]
    sources: Mapping[str, Mapping[str, int]]


@dataclass(frozen=True)
class Stretch:
    """Slots [start, stop) of a bucket with one mix."""

    start: int
    stop: int
    mix: Mix


@dataclass(frozen=True)
class Phase:
    """Batches [start, stop) with one mix of buckets: their weights, and the mix of kinds and sources in each."""

    start: int
    stop: int
    buckets: Mapping[str, int]
    mixes: Mapping[str, Mix]


def weights_of(shares: Mapping[str, float]) -> dict[str, int]:
    """Convert shares to integer weights; drop zero shares."""
    return {name: weight for name, share in shares.items() if (weight := round(share * SCALE)) > 0}


def counts(draws: int, weights: Mapping[str, int]) -> dict[str, int]:
    """Return how many of the first `draws` draws each name gets, in closed form.

    The first name gets its share of all draws, rounded; the next one its share of the remaining draws; and so on. So
    each count grows by 0 or 1 per draw, is exact at every multiple of the sum of the weights, and with k names stays
    within (k - 1) / 2 draws of its share.
    """
    remaining, total, result = draws, sum(weights.values()), {}
    for name in sorted(weights):
        result[name] = (2 * remaining * weights[name] + total) // (2 * total)
        remaining -= result[name]
        total -= weights[name]
    return result


def draw_batch(phases: Sequence[Phase], step: int, size: int) -> tuple[str, list[tuple[Cell, int]]]:
    """Return the bucket of the batch of `step`, and for each of its `size` slots the cell and the position in it.

    `phases` are contiguous from step 0 on. Raises `ValueError` for a step beyond them.
    """
    batches: Counter[str] = Counter()
    stretches: dict[str, list[Stretch]] = {}
    for phase in phases:
        for bucket, gained in _between(phase.start, min(phase.stop, step + 1), phase.buckets):
            slots = size * batches[bucket], size * (batches[bucket] + gained)
            stretches.setdefault(bucket, []).append(Stretch(*slots, phase.mixes[bucket]))
            batches[bucket] += gained
        if step < phase.stop:
            [(bucket, _)] = _between(step, step + 1, phase.buckets)
            return bucket, draw(stretches[bucket], size * (batches[bucket] - 1), size)
    raise ValueError(f"step {step} is outside the schedule")


def draw(stretches: Sequence[Stretch], first: int, count: int) -> list[tuple[Cell, int]]:
    """Return, for each of the slots [first, first + count), its cell and the position within that cell.

    `stretches` are contiguous from slot 0 on. Raises `ValueError` for slots beyond them.
    """
    kinds: Counter[str] = Counter()
    cells: Counter[Cell] = Counter()
    drawn = []
    for stretch in stretches:
        _advance(stretch, stretch.start, min(stretch.stop, first), kinds, cells)
        for slot in range(max(stretch.start, first), min(stretch.stop, first + count)):
            [cell] = _advance(stretch, slot, slot + 1, kinds, cells)
            drawn.append((cell, cells[cell] - 1))
    if len(drawn) < count:
        raise ValueError(f"slots [{first}, {first + count}) are outside the schedule")
    return drawn


def _advance(stretch: Stretch, start: int, stop: int, kinds: Counter[str], cells: Counter[Cell]) -> list[Cell]:
    """Add slots [start, stop) of a stretch to the counters `kinds` and `cells`; return the cells that got any."""
    advanced: list[Cell] = []
    for kind, gained in _between(start, max(start, stop), stretch.mix.kinds):
        for source, share in _between(kinds[kind], kinds[kind] + gained, stretch.mix.sources[kind]):
            cells[kind, source] += share
            advanced.append((kind, source))
        kinds[kind] += gained
    return advanced


def _between(start: int, stop: int, weights: Mapping[str, int]) -> Iterable[tuple[str, int]]:
    """Return the names that get any of draws [start, stop), with their counts."""
    if start == stop:
        return []
    before, after = counts(start, weights), counts(stop, weights)
    return [(name, after[name] - before[name]) for name in weights if after[name] > before[name]]


def window_at(seed: int, cell: tuple[str, ...], position: int, windows: int) -> tuple[int, int]:
    """Return the target window (below `windows`) at a position of a cell, and the number of its earlier visits."""
    epoch, index = divmod(position, windows)
    return int(_order(seed, cell, epoch, windows)[index]), epoch


def driver_at(seed: int, cell: tuple[str, ...], window: int, visit: int, drivers: int) -> int:
    """Return the driver (below `drivers`) of a target window at visit `visit` (0-based)."""
    if drivers == 1:
        return 0
    turn, index = divmod(visit, drivers)
    return int(np.random.default_rng([seed, turn, window, *_name(cell)]).permutation(drivers)[index])


def available(mix: dict[str, float], sizes: dict[str, int]) -> dict[str, float]:
    """Return `mix` without kinds that have no pairs, renormalised to 1. Raises `ValueError` if no kind remains."""
    usable = {kind: share for kind, share in mix.items() if sizes.get(kind) and share > 0}
    if not usable:
        raise ValueError(f"the release has no training pairs of {' or '.join(sorted(mix))}: this stage cannot run")
    return {kind: share / sum(usable.values()) for kind, share in usable.items()}


@lru_cache(maxsize=128)
def _order(seed: int, cell: tuple[str, ...], epoch: int, size: int) -> NDArray[np.int64]:
    return np.random.default_rng([seed, epoch, *_name(cell)]).permutation(size)


def _name(cell: tuple[str, ...]) -> bytes:
    return "/".join(cell).encode()
