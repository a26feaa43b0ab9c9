"""Compute the fingerprint of a clip for duplicate search: tiny pictures, ten per second, collected while it is cut."""

from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from opendimo.pipelines.duplicates.crops import curve_hashes
from opendimo.pipelines.duplicates.pictures import SIDE, Edges, Hashes, distances, frequencies, hashes, telling
from opendimo.storage_schemas.rows import Row

RATE = 10.0  # pictures per second
GATHERED = 64  # side of the pictures until black borders are known and cropped
BLACK = 28  # upper limit of the brightest pixel of a black border, 0 to 255
SEARCHED_CUTS: tuple[Edges, ...] = ((0.0, 0.0, 0.0, 0.0), (0.07, 0.07, 0.07, 0.07))
"""Crops that are hashed: the whole picture and its middle, so that copies with cropped borders are found."""
SAME = 2  # bits; a hash that differs from the previous one by at most this is dropped


@dataclass
class Fingerprint:
    """Collects the fingerprint of one clip with `fps` frames per second. Memory: 4 KB per picture."""

    fps: float
    _seen: int = 0
    _pictures: list[NDArray[np.uint8]] = field(default_factory=list)

    def add(self, gray: NDArray[np.uint8]) -> None:
        """Add the next frame [h, w], of any size."""
        if self._seen % self.step == 0:
            self._pictures.append(np.asarray(cv2.resize(gray, (GATHERED, GATHERED), interpolation=cv2.INTER_AREA)))
        self._seen += 1

    @property
    def step(self) -> int:
        """Frames from one picture to the next."""
        return max(1, round(self.fps / RATE))

    def columns(self) -> Row:
        """Return the columns of `fingerprints`, without `clip_id`. Raises `ValueError` if no frame was added."""
        if not self._pictures:
            raise ValueError("cannot compute the fingerprint of a clip without frames")
        pictures = _without_borders(np.stack(self._pictures))
        per_second = max(1, round(self.fps / self.step))
        of_pictures, of_curve = searched_hashes(pictures, per_second), curve_hashes(pictures, max(1, per_second // 2))
        search_hashes = np.union1d(of_pictures, of_curve)
        return {
            "picture_step": self.step,
            "hashes": search_hashes.view(np.int64).tolist(),
            "pictures": pictures.tobytes(),
        }


def pictures_of(stored: bytes) -> NDArray[np.uint8]:
    """Decode the column `pictures` into [n, SIDE, SIDE]."""
    return np.frombuffer(stored, np.uint8).reshape(-1, SIDE, SIDE)


def searched_hashes(pictures: NDArray[np.uint8], every: int = 1) -> Hashes:
    """Return the distinct hashes, sorted, of every `every`-th picture and its middle.

    Pictures with low contrast are skipped.
    """
    chosen = pictures[::every]
    chosen = chosen[telling(chosen)]
    hashes_per_cut = [_without_repeats(hashes(frequencies(chosen, cut))) for cut in SEARCHED_CUTS]
    return np.unique(np.concatenate(hashes_per_cut))


def _without_repeats(row: Hashes) -> Hashes:
    """Drop hashes that are nearly equal to the last one kept."""
    kept: list[int] = []
    for k in range(len(row)):
        if not kept or distances(row[k : k + 1], row[kept[-1] : kept[-1] + 1])[0] > SAME:
            kept.append(k)
    return row[kept]


def _without_borders(pictures: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Crop black borders of pictures [n, GATHERED, GATHERED] and resize them to [n, SIDE, SIDE].

    A border is black in all pictures.
    """
    brightest = pictures.max(0)
    top, bottom = _black_borders(brightest.max(1))
    left, right = _black_borders(brightest.max(0))
    inner = pictures[:, top : GATHERED - bottom, left : GATHERED - right]
    small = [cv2.resize(np.ascontiguousarray(p), (SIDE, SIDE), interpolation=cv2.INTER_AREA) for p in inner]
    return np.asarray(np.stack(small), np.uint8)


def _black_borders(brightest: NDArray[np.uint8]) -> tuple[int, int]:
    """Return the number of lines to crop at both ends: the black ones and one more, which is half black.

    If an end would lose more than a third of the lines, nothing is cropped.
    """
    bright = np.flatnonzero(brightest >= BLACK)
    if not len(bright):
        return 0, 0
    ends = (int(bright[0]), len(brightest) - 1 - int(bright[-1]))
    first, last = (end + 1 if end else 0 for end in ends)
    return (first, last) if max(first, last) <= len(brightest) // 3 else (0, 0)
