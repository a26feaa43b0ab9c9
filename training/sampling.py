"""Which pairs make up the batch of a step: a pure function of (seed, step), so that resuming needs no state.

Position is absolute (a loader that counts from its last restart replays data on the second one): slot b of step s is
position s * batch + b of an endless walk through every kind of pair, newly shuffled each time it is through.
"""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray


def choose(step: int, mix: dict[str, float], sizes: dict[str, int], batch: int, seed: int) -> list[tuple[str, int]]:
    """(kind, index below `sizes[kind]`) for each slot of the batch of `step`.

    Kinds follow `mix` exactly in the long run and to within one slot in each batch (systematic sampling).
    """
    kinds = sorted(mix)
    bounds = np.cumsum([mix[kind] for kind in kinds])
    offset = np.random.default_rng([seed, step]).random()
    slots = []
    for slot in range(batch):
        kind = kinds[min(int(np.searchsorted(bounds, (slot + offset) / batch, side="right")), len(kinds) - 1)]
        epoch, index = divmod(step * batch + slot, sizes[kind])
        slots.append((kind, int(_order(seed, kind, epoch, sizes[kind])[index])))
    return slots


def available(mix: dict[str, float], sizes: dict[str, int]) -> dict[str, float]:
    """`mix` without the kinds that have no pairs, summing to 1 again. Raises `ValueError` where none is left."""
    left = {kind: share for kind, share in mix.items() if sizes.get(kind) and share > 0}
    if not left:
        raise ValueError(f"the release has no training pairs of {' or '.join(sorted(mix))}: this stage cannot run")
    return {kind: share / sum(left.values()) for kind, share in left.items()}


@lru_cache(maxsize=8)
def _order(seed: int, kind: str, epoch: int, size: int) -> NDArray[np.int64]:
    return np.random.default_rng([seed, *kind.encode(), epoch]).permutation(size)
