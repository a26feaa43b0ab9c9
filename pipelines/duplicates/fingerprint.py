"""What of a clip is compared with other clips: tiny pictures, ten a second, gathered while its frames pass by."""

from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from opendimo.pipelines.duplicates.pictures import SIDE, Edges, Hashes, distances, frequencies, hashes, telling

RATE = 10.0  # pictures per second
GATHERED = 64  # side of the pictures until black borders are known
BLACK = 28  # the brightest pixel that a border has, 0 to 255
SEARCHED_CUTS: tuple[Edges, ...] = ((0.0, 0.0, 0.0, 0.0), (0.07, 0.07, 0.07, 0.07))
"""Hashes are searched for whole pictures and for their middle, so that a copy with cropped borders is met."""
SAME = 2  # bits; what follows and differs by less says nothing new

Row = dict[str, Any]


@dataclass
class Fingerprint:
    """Gathers the fingerprint of one clip of `fps` frames per second. Memory: 4 KB per picture."""

    fps: float
    _seen: int = 0
    _pictures: list[NDArray[np.uint8]] = field(default_factory=list)

    def add(self, gray: NDArray[np.uint8]) -> None:
        """Look at the next frame [h, w], of any size."""
        if self._seen % self.step == 0:
            self._pictures.append(np.asarray(cv2.resize(gray, (GATHERED, GATHERED), interpolation=cv2.INTER_AREA)))
        self._seen += 1

    @property
    def step(self) -> int:
        """Frames from one picture to the next."""
        return max(1, round(self.fps / RATE))

    def columns(self) -> Row:
        """The columns of `fingerprints` without `clip_id`. Raises `ValueError` where there was no frame."""
        if not self._pictures:
            raise ValueError("a clip without frames has no fingerprint")
        pictures = _without_borders(np.stack(self._pictures))
        found = searched_hashes(pictures, every=max(1, round(self.fps / self.step)))
        return {
            "picture_step": self.step,
            "hashes": found.view(np.int64).tolist(),
            "pictures": pictures.tobytes(),
        }


def pictures_of(stored: bytes) -> NDArray[np.uint8]:
    """The column `pictures` -> [n, SIDE, SIDE]."""
    return np.frombuffer(stored, np.uint8).reshape(-1, SIDE, SIDE)


def searched_hashes(pictures: NDArray[np.uint8], every: int = 1) -> Hashes:
    """Distinct hashes of every n-th of the telling pictures and of their middles, in order."""
    chosen = pictures[::every]
    chosen = chosen[telling(chosen)]
    found = [_changes(hashes(frequencies(chosen, cut))) for cut in SEARCHED_CUTS]
    return np.unique(np.concatenate(found))


def _changes(row: Hashes) -> Hashes:
    """Without those that are nearly the one kept before."""
    kept: list[int] = []
    for k in range(len(row)):
        if not kept or distances(row[k : k + 1], row[kept[-1] : kept[-1] + 1])[0] > SAME:
            kept.append(k)
    return row[kept]


def _without_borders(pictures: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """[n, GATHERED, GATHERED] -> [n, SIDE, SIDE] of what lies inside lines that are black throughout."""
    brightest = pictures.max(0)
    top, bottom = _black_ends(brightest.max(1))
    left, right = _black_ends(brightest.max(0))
    inner = pictures[:, top : GATHERED - bottom, left : GATHERED - right]
    small = [cv2.resize(np.ascontiguousarray(p), (SIDE, SIDE), interpolation=cv2.INTER_AREA) for p in inner]
    return np.asarray(np.stack(small), np.uint8)


def _black_ends(brightest: NDArray[np.uint8]) -> tuple[int, int]:
    """Lines to leave out at both ends: at most a third each, and one more than is black, which is half black."""
    bright = np.flatnonzero(brightest >= BLACK)
    if not len(bright):
        return 0, 0
    ends = (int(bright[0]), len(brightest) - 1 - int(bright[-1]))
    first, last = (end + 1 if end else 0 for end in ends)
    return (first, last) if max(first, last) <= len(brightest) // 3 else (0, 0)
