"""Which clips have a hash near one of ours: a table per quarter of the hash (multi-index hashing, arXiv 1307.2982).

Two hashes that differ in at most 3 bits agree in a quarter; of those that differ in more, most pairs of clips have one
pair of pictures that do. Memory is 28 bytes per hash, whatever is searched.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from opendimo.pipelines.duplicates.pictures import Hashes, distances

QUARTERS = 4
BITS = 16
RADIUS = 10  # bits; farther hashes are of another picture
CROWD = 1 << 14  # a quarter that more hashes share tells nothing: it is not looked at
AT_ONCE = 1 << 21  # hashes compared at a time


@dataclass(frozen=True)
class HashIndex:
    """`hashes` with the number of the clip that each is of, `owners`; per quarter, their places in its order and where
    each value of it starts."""

    hashes: Hashes
    owners: NDArray[np.int32]
    orders: list[NDArray[np.int32]]
    starts: list[NDArray[np.int64]]

    @classmethod
    def of(cls, hashes: Hashes, owners: NDArray[np.int32]) -> "HashIndex":
        """Build the tables: a sort per quarter."""
        orders, starts = [], []
        for quarter in range(QUARTERS):
            values = _quarter(hashes, quarter)
            orders.append(np.argsort(values, kind="stable").astype(np.int32))
            starts.append(np.concatenate([[0], np.cumsum(np.bincount(values, minlength=1 << BITS))]))
        return cls(hashes, owners, orders, starts)

    def near(self, wanted: Hashes) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Clips that have hashes near the `wanted` ones, and their votes: the more, the more and nearer hashes."""
        owners, votes = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
        for quarter in range(QUARTERS):
            values = _quarter(wanted, quarter)
            first = self.starts[quarter][values]
            count = self.starts[quarter][values.astype(np.int64) + 1] - first
            count[count > CROWD] = 0
            for chosen in _portions(count):
                rows = self.orders[quarter][_ranges(first[chosen], count[chosen])]
                asked = np.repeat(wanted[chosen], count[chosen])
                far = distances(self.hashes[rows], asked)
                near = far <= RADIUS
                owners.append(self.owners[rows[near]].astype(np.int64))
                votes.append(RADIUS + 1 - far[near].astype(np.int64))
        found, which = np.unique(np.concatenate(owners), return_inverse=True)
        return found, np.bincount(which, np.concatenate(votes), len(found)).astype(np.int64)


def _quarter(hashes: Hashes, quarter: int) -> NDArray[np.uint16]:
    return ((hashes >> np.uint64(BITS * quarter)) & np.uint64((1 << BITS) - 1)).astype(np.uint16)


def _ranges(first: NDArray[np.int64], count: NDArray[np.int64]) -> NDArray[np.int64]:
    """All places of [first, first + count), one range after the other."""
    ends = np.cumsum(count)
    return np.arange(ends[-1] if len(ends) else 0) + np.repeat(first - ends + count, count)


def _portions(count: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Places of `count` in portions with a sum of about `AT_ONCE` at most."""
    portion = np.cumsum(count) // AT_ONCE
    return [np.flatnonzero(portion == k) for k in np.unique(portion)]
