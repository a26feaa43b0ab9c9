"""Compute low frequencies and 63-bit hashes of tiny pictures, also of mirrored and cropped ones."""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

SIDE = 16  # pixels
LOW = 8  # number of lowest frequencies per axis that are used
MIN_CONTRAST = 3.0  # least standard deviation in grey levels; flatter pictures are not distinctive

Hashes = NDArray[np.uint64]  # [n]; bit 8 y + x is set if the frequency (y, x) is positive; bit 0 is always 0
Edges = tuple[float, float, float, float]
"""Cropped borders at top, bottom, left, right, as shares of height and width."""

WHOLE: Edges = (0.0, 0.0, 0.0, 0.0)
MIRROR = np.uint64(sum(1 << (8 * y + x) for y in range(LOW) for x in range(1, LOW, 2)))
"""The bits that change if a picture is mirrored left to right: the sign of every second horizontal frequency."""


def frequencies(pictures: NDArray[np.generic], cut: Edges = WHOLE) -> NDArray[np.float64]:
    """Return the lowest frequencies [n, 64] (DCT-II, orthonormal) of pictures after cropping them by `cut`."""
    top, bottom, left, right = cut
    low = _dct_matrix(top, bottom) @ pictures.astype(np.float64) @ _dct_matrix(left, right).T
    return low.reshape(len(low), LOW * LOW)


def hashes(low: NDArray[np.float64]) -> Hashes:
    """Return the hashes [n]: the signs of frequencies [n, 64], except the mean.

    Another size, codec or brightness changes a few bits; another picture changes about half of them.
    """
    bits = low > 0
    bits[:, 0] = False
    return np.packbits(bits, axis=1, bitorder="little").view("<u8").ravel().astype(np.uint64)


def distances(a: Hashes, b: Hashes) -> NDArray[np.uint8]:
    """Return the Hamming distances: numbers of bits that differ."""
    return np.asarray(np.bitwise_count(a ^ b), np.uint8)


def telling(pictures: NDArray[np.generic]) -> NDArray[np.bool_]:
    """Return a mask of the pictures with enough contrast (`MIN_CONTRAST`) to be distinctive."""
    return np.asarray(pictures.reshape(len(pictures), -1).std(1) >= MIN_CONTRAST)


@lru_cache(maxsize=4096)
def _dct_matrix(before: float, after: float) -> NDArray[np.float64]:
    """Return the matrix [LOW, SIDE] that maps a line of pixels, cropped at both ends, to its frequencies."""
    centres = (np.arange(SIDE) + 0.5) / SIDE * (1 - before - after) + before
    position = np.clip(centres * SIDE - 0.5, 0, SIDE - 1)
    first = np.minimum(position.astype(int), SIDE - 2)
    sampled = np.zeros((SIDE, SIDE))
    sampled[np.arange(SIDE), first] = 1 - (position - first)
    sampled[np.arange(SIDE), first + 1] = position - first
    waves = np.cos(np.arange(LOW)[:, None] * (np.arange(SIDE) + 0.5) * np.pi / SIDE) * np.sqrt(2 / SIDE)
    waves[0] /= np.sqrt(2)
    return np.asarray(waves @ sampled)
