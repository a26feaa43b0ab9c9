"""Which pairs make up the batch of a step: a pure function of (seed, step), so that resuming needs no state.

Position is absolute (a loader that counts from its last restart replays data on the second one). The slots of all
batches are numbered from step 0 on, across stages. Each slot goes to a kind of pair and to a kind of source by their
shares; each (kind, source kind) is a cell with a walk of its own through its target windows, and the position in that
walk is the number of slots that the cell was given since step 0. A walk is therefore never skipped in, whatever the
mix, and a stage goes on where the one before left it.

One epoch of a walk visits every target window of the cell once, in an order shuffled anew each time. A window with
several driving clips takes the next of them at each visit: each once before any twice, shuffled per window.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Cell = tuple[str, str]
"""Kind of pair, kind of source."""
SCALE = 1 << 40


@dataclass(frozen=True)
class Stretch:
    """Slots [start, stop) with one mix: weights of the kinds of pairs, and for each kind those of its sources.
    Weights are positive integers (`weights_of`), so that counts are exact; they need not sum to anything."""

    start: int
    stop: int
    kinds: Mapping[str, int]
    sources: Mapping[str, Mapping[str, int]]


def weights_of(shares: Mapping[str, float]) -> dict[str, int]:
    """Shares as integer weights; those that are zero are left out."""
    return {name: weight for name, share in shares.items() if (weight := round(share * SCALE)) > 0}


def counts(draws: int, weights: Mapping[str, int]) -> dict[str, int]:
    """How many of the first `draws` draws each name gets, in closed form.

    The first name gets its share of all draws, rounded; the next one its share of what is left; and so on. So each
    count grows by 0 or 1 from one draw to the next, is exact at every multiple of the sum of the weights, and of k
    names always within (k - 1) / 2 draws of its share.
    """
    left, total, found = draws, sum(weights.values()), {}
    for name in sorted(weights):
        found[name] = (2 * left * weights[name] + total) // (2 * total)
        left -= found[name]
        total -= weights[name]
    return found


def draw(stretches: Sequence[Stretch], first: int, count: int) -> list[tuple[Cell, int]]:
    """The cell of each of the slots [first, first + count), and the position in its walk.

    `stretches` follow each other from slot 0 on. Raises `ValueError` for slots beyond them.
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
    """Count slots [start, stop) of a stretch into `kinds` and `cells`; the cells that got any."""
    got = []
    for kind, gained in _between(start, max(start, stop), stretch.kinds):
        for source, share in _between(kinds[kind], kinds[kind] + gained, stretch.sources[kind]):
            cells[kind, source] += share
            got.append((kind, source))
        kinds[kind] += gained
    return got


def _between(start: int, stop: int, weights: Mapping[str, int]) -> Iterable[tuple[str, int]]:
    """The names that get some of draws [start, stop), and how many."""
    if start == stop:
        return []
    before, after = counts(start, weights), counts(stop, weights)
    return [(name, after[name] - before[name]) for name in weights if after[name] > before[name]]


def window_at(seed: int, cell: Cell, position: int, windows: int) -> tuple[int, int]:
    """The target window (below `windows`) at a position of a cell's walk, and how often it was visited before."""
    epoch, index = divmod(position, windows)
    return int(_order(seed, cell, epoch, windows)[index]), epoch


def driver_at(seed: int, cell: Cell, window: int, visit: int, drivers: int) -> int:
    """The driver (below `drivers`) of a target window at its visit (from 0)."""
    if drivers == 1:
        return 0
    turn, index = divmod(visit, drivers)
    return int(np.random.default_rng([seed, turn, window, *_name(cell)]).permutation(drivers)[index])


def available(mix: dict[str, float], sizes: dict[str, int]) -> dict[str, float]:
    """`mix` without the kinds that have no pairs, summing to 1 again. Raises `ValueError` where none is left."""
    left = {kind: share for kind, share in mix.items() if sizes.get(kind) and share > 0}
    if not left:
        raise ValueError(f"the release has no training pairs of {' or '.join(sorted(mix))}: this stage cannot run")
    return {kind: share / sum(left.values()) for kind, share in left.items()}


@lru_cache(maxsize=32)
def _order(seed: int, cell: Cell, epoch: int, size: int) -> NDArray[np.int64]:
    return np.random.default_rng([seed, epoch, *_name(cell)]).permutation(size)


def _name(cell: Cell) -> bytes:
    return "/".join(cell).encode()
