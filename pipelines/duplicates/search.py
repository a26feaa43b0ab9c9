"""Find clips with similar hashes, using one table per quarter of the hash (multi-index hashing, arXiv 1307.2982).

Two hashes that differ in at most 3 bits agree in at least one quarter. Pictures of copies may differ in more bits, but
most pairs of copies have at least one pair of pictures that agree in a quarter. Memory is 28 bytes per hash, regardless
of the query.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from opendimo.pipelines.duplicates.pictures import Hashes, distances

QUARTERS = 4
BITS = 16
RADIUS = 10  # bits; hashes that differ in more are of different pictures
CROWD = 1 << 14  # a quarter's value that more hashes share is not informative and is skipped
AT_ONCE = 1 << 21  # hashes compared per batch


@dataclass(frozen=True)
class HashIndex:
    """A search index over `hashes`; `owners` is the number of each hash's clip.

    Per quarter, `orders` are the indices of the hashes sorted by that quarter's value, and `starts` where each value
    begins in that order.
    """

    hashes: Hashes
    owners: NDArray[np.int32]
    orders: list[NDArray[np.int32]]
    starts: list[NDArray[np.int64]]

    @classmethod
    def of(cls, hashes: Hashes, owners: NDArray[np.int32]) -> "HashIndex":
        """Build the index: sort the hashes by each quarter."""
        orders, starts = [], []
        for quarter in range(QUARTERS):
            values = _quarter(hashes, quarter)
            orders.append(np.argsort(values, kind="stable").astype(np.int32))
            starts.append(np.concatenate([[0], np.cumsum(np.bincount(values, minlength=1 << BITS))]))
        return cls(hashes, owners, orders, starts)

    def near(self, wanted: Hashes) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the clips with hashes near the `wanted` ones, and their votes.

        Each near hash adds votes: more if it is nearer.
        """
        owners, votes = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
        for quarter in range(QUARTERS):
            values = _quarter(wanted, quarter)
            first = self.starts[quarter][values]
            count = self.starts[quarter][values.astype(np.int64) + 1] - first
            count[count > CROWD] = 0
            for portion in _batches(count):
                rows = self.orders[quarter][_ranges(first[portion], count[portion])]
                query_hashes = np.repeat(wanted[portion], count[portion])
                bits = distances(self.hashes[rows], query_hashes)
                near = bits <= RADIUS
                owners.append(self.owners[rows[near]].astype(np.int64))
                votes.append(RADIUS + 1 - bits[near].astype(np.int64))
        clips, clip_of_hit = np.unique(np.concatenate(owners), return_inverse=True)
        return clips, np.bincount(clip_of_hit, np.concatenate(votes), len(clips)).astype(np.int64)


def _quarter(hashes: Hashes, quarter: int) -> NDArray[np.uint16]:
    return ((hashes >> np.uint64(BITS * quarter)) & np.uint64((1 << BITS) - 1)).astype(np.uint16)


def _ranges(first: NDArray[np.int64], count: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the indices of all ranges [first, first + count), concatenated."""
    ends = np.cumsum(count)
    return np.arange(ends[-1] if len(ends) else 0) + np.repeat(first - ends + count, count)


def _batches(count: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Split the indices of `count` into batches whose counts sum to about `AT_ONCE` at most."""
    portion = np.cumsum(count) // AT_ONCE
    return [np.flatnonzero(portion == k) for k in np.unique(portion)]
