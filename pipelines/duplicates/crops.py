"""Find clips that show a part of another clip's pictures, cropped on any side, by when and where they change.

The hashes of whole pictures do not find crops beyond a tenth of an edge. Candidates are clips whose pictures look like
windows of a clip's, and clips whose pictures change at the same times, which a crop and a mirror hardly alter. Then the
window of the larger picture is searched whose changes are those of the smaller one.
"""

from itertools import product

import cv2
import numpy as np
from numpy.typing import NDArray

from opendimo.pipelines.duplicates.align import FINE, LAG, MIN_MOMENTS, RATE, Evidence, Film, at_rate
from opendimo.pipelines.duplicates.pictures import LOW, Edges, Hashes, frequencies, hashes, telling

SPAN = 24  # pictures of a curve that is hashed
APART = 4  # pictures between the two whose difference is hashed
MIN_ENERGY = 0.1  # least standard deviation of a curve, grey levels; less is noise
LIKE = 0.4  # least correlation of two curves
PLACES = {
    0.93: 2,
    0.86: 4,
    0.8: 5,
    0.74: 6,
    0.68: 7,
    0.62: 8,
    0.58: 9,
}  # windows that are hashed: places per axis by their side
SIDES = (1.0, 0.85, 0.7, 0.6)  # of a window over those of the picture, tried first
KEPT = 5  # frequencies per axis that are compared: a window of 60 % has about ten pixels a side
FINER = (0.06, 0.03, 0.015)
STILL = 0.2  # least mean change of a picture, grey levels; less is codec noise
OFFSETS = 4  # that are tried, the best ones
SAMPLE = 24  # moments at which windows are tried


def curve_hashes(pictures: NDArray[np.uint8], every: int = 1) -> Hashes:
    """Return the distinct hashes, sorted, of the curve of changes at every `every`-th of `pictures` [n, SIDE, SIDE].

    Bit 0 is set, which hashes of pictures never have.
    """
    curve = _curve(pictures.astype(np.float64))
    found = []
    for start in range(0, len(curve) - SPAN + 1, every):
        part = curve[start : start + SPAN] - curve[start : start + SPAN].mean()
        if part.std() < MIN_ENERGY:
            continue
        waves = cv2.dct(part.reshape(1, -1)).ravel()[1 : 64 - SPAN - (SPAN - APART)]
        bits = np.concatenate([[1], part, waves, part[APART:] - part[:-APART]]) > 0
        found.append(int(np.packbits(bits, bitorder="little").view("<u8")[0]))
    return np.unique(np.array(found, np.uint64))


def window_hashes(pictures: NDArray[np.uint8], every: int) -> Hashes:
    """Return the distinct hashes, sorted, of windows of every `every`-th of `pictures`, as its crops may have."""
    chosen = pictures[::every][telling(pictures[::every])]
    found = [np.zeros(0, np.uint64)]
    for side, count in PLACES.items():
        for y, x in product(np.linspace(0, 1 - side, count).round(3).tolist(), repeat=2):
            cut: Edges = (y, round(1 - side - y, 3), x, round(1 - side - x, 3))
            found.append(hashes(frequencies(chosen, cut)))
    return np.unique(np.concatenate(found))


def cropped_footage(
    clip: NDArray[np.uint8], step: float, other: NDArray[np.uint8], other_step: float
) -> Evidence | None:
    """Search the footage of `clip` in a window of `other`, or of a window of `clip` in `other`.

    Both are pictures [n, SIDE, SIDE], one every `step` and `other_step` seconds. Returns None if they share too little.
    """
    a, b = at_rate(clip, step, RATE), at_rate(other, other_step, RATE * FINE)
    best: tuple[float, int, NDArray[np.int64]] | None = None
    ends = 0, len(b) - FINE * len(a)  # most crops are of all frames
    for offset in sorted({*ends, *_offsets(_curve(a), _curve(b, LAG * FINE))}):
        moments = np.arange(len(a))
        shared = moments[(moments * FINE + offset >= 0) & (moments * FINE + offset < len(b))]
        if len(shared) < MIN_MOMENTS or min(_curve(a[shared]).mean(), _curve(b[shared * FINE + offset]).mean()) < STILL:
            continue
        few = shared[:: max(1, len(shared) // SAMPLE)]
        for small, large in ((a[few], b[few * FINE + offset]), (b[few * FINE + offset], a[few])):
            similarity = _best_window(small, large)
            if best is None or similarity > best[0]:
                best = similarity, offset, shared
    if best is None:
        return None
    similarity, offset, shared = best
    return Evidence(offset / FINE / RATE, float(shared[0]) / RATE, float(shared[-1] + 1) / RATE, similarity, 0.0)


def _curve(film: Film, lag: int = LAG) -> NDArray[np.float64]:
    """Return the mean absolute change of each picture to the one `lag` later."""
    return np.asarray(np.abs(film[lag:] - film[:-lag]).mean((1, 2)))


def _offsets(a: NDArray[np.float64], b: NDArray[np.float64]) -> list[int]:
    """Return up to `OFFSETS` offsets, in steps of `b`, at which the curves correlate."""
    found: list[tuple[float, int]] = []
    for offset in range(-FINE * (len(a) - MIN_MOMENTS), len(b) - FINE * MIN_MOMENTS + 1):
        moments = np.arange(max(0, -(offset // FINE)), min(len(a), (len(b) - 1 - offset) // FINE + 1))
        if len(moments) < MIN_MOMENTS:
            continue
        x, y = a[moments], b[moments * FINE + offset]
        spread = x.std() * y.std()
        if (
            min(x.std(), y.std()) > MIN_ENERGY / 2
            and (like := float(((x - x.mean()) * (y - y.mean())).mean() / spread)) > LIKE
        ):
            found.append((like * np.sqrt(len(moments)), offset))
    found.sort(reverse=True)
    chosen: list[int] = []
    for _, offset in found:
        if len(chosen) < OFFSETS and all(abs(offset - other) > FINE * LAG for other in chosen):
            chosen.append(offset)
    return chosen


def _best_window(small: Film, large: Film) -> float:
    """Return the largest similarity of `small` to a window of `large`."""
    changes = _changes(small, (0.0, 0.0, 0.0, 0.0))
    tried = [(height, width) for height, width in product(SIDES, SIDES)]
    windows = [
        (y, 1 - height - y, x, 1 - width - x)
        for height, width in tried
        for y, x in product(_places(height), _places(width))
    ]
    scores = [_alike(changes, _changes(large, window)) for window in windows]
    best = max(scores)
    for index in np.argsort(scores)[::-1][:3]:
        window, score = windows[index], scores[index]
        for step in FINER:
            for edge, sign in product(range(4), (step, -step)):
                moved = list(window)
                moved[edge] += sign
                if moved[edge] < 0 or max(moved[0] + moved[1], moved[2] + moved[3]) > 0.5:
                    continue
                candidate: Edges = (moved[0], moved[1], moved[2], moved[3])
                if (value := _alike(changes, _changes(large, candidate))) > score:
                    window, score = candidate, value
        best = max(best, score)
    return float(best)


def _places(side: float) -> list[float]:
    return [0.0] if side == 1 else list(np.linspace(0, 1 - side, 3 if side > 0.8 else 4))


def _changes(film: Film, cut: Edges) -> NDArray[np.float64]:
    """Return the low frequencies of a window, less their means over time."""
    rounded = tuple(round(max(0.0, edge), 3) for edge in cut)
    low = frequencies(film, (rounded[0], rounded[1], rounded[2], rounded[3])).reshape(-1, LOW, LOW)[:, :KEPT, :KEPT]
    flat = low.reshape(len(film), -1)
    return np.asarray((flat - flat.mean(0))[:, 1:])


def _alike(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    return float((x * y).sum() / (np.sqrt((x**2).sum() * (y**2).sum()) + 1e-9))
