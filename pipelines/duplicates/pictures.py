"""Tiny pictures, and what is read from them: low frequencies, 63-bit hashes, mirrored and cropped ones."""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

SIDE = 16  # pixels
LOW = 8  # frequencies per axis that count
MIN_CONTRAST = 3.0  # standard deviation in grey levels; flatter pictures look like all others

Pictures = NDArray[np.float64]  # [n, SIDE, SIDE]
Hashes = NDArray[np.uint64]  # [n]; bit 8 y + x says whether the frequency (y, x) of the picture is positive, bit 0 is 0
Edges = tuple[float, float, float, float]
"""What is cut off at top, bottom, left, right, as shares of height and width."""

WHOLE: Edges = (0.0, 0.0, 0.0, 0.0)
MIRROR = np.uint64(sum(1 << (8 * y + x) for y in range(LOW) for x in range(1, LOW, 2)))
"""Mirroring left and right changes the sign of every second frequency: these bits, and no others."""


def frequencies(pictures: NDArray[np.generic], cut: Edges = WHOLE) -> NDArray[np.float64]:
    """The lowest frequencies (DCT-II, orthonormal) of pictures, or of what is left of them -> [n, 64]."""
    top, bottom, left, right = cut
    low = _reader(top, bottom) @ pictures.astype(np.float64) @ _reader(left, right).T
    return low.reshape(len(low), LOW * LOW)


def hashes(low: NDArray[np.float64]) -> Hashes:
    """The signs of frequencies [n, 64] but the mean -> [n]. Another size, codec or light changes a few bits, another
    picture about half of them."""
    bits = low > 0
    bits[:, 0] = False
    return np.packbits(bits, axis=1, bitorder="little").view("<u8").ravel().astype(np.uint64)


def distances(a: Hashes, b: Hashes) -> NDArray[np.uint8]:
    """Bits that differ (Hamming)."""
    return np.asarray(np.bitwise_count(a ^ b), np.uint8)


def telling(pictures: NDArray[np.generic]) -> NDArray[np.bool_]:
    """Which pictures have enough contrast to be told from others."""
    return np.asarray(pictures.reshape(len(pictures), -1).std(1) >= MIN_CONTRAST)


@lru_cache(maxsize=4096)
def _reader(before: float, after: float) -> NDArray[np.float64]:
    """[LOW, SIDE]: the frequencies of what is left of a line of pixels without its ends."""
    at = (np.arange(SIDE) + 0.5) / SIDE * (1 - before - after) + before
    place = np.clip(at * SIDE - 0.5, 0, SIDE - 1)
    first = np.minimum(place.astype(int), SIDE - 2)
    sampled = np.zeros((SIDE, SIDE))
    sampled[np.arange(SIDE), first] = 1 - (place - first)
    sampled[np.arange(SIDE), first + 1] = place - first
    waves = np.cos(np.arange(LOW)[:, None] * (np.arange(SIDE) + 0.5) * np.pi / SIDE) * np.sqrt(2 / SIDE)
    waves[0] /= np.sqrt(2)
    return np.asarray(waves @ sampled)
