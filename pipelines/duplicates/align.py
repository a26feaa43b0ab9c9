"""Decide whether two clips show the same footage: estimate the offset in time, the shared span and the similarity.

All pictures of a static scene look alike, whatever happens in it. So clips are compared by what changes: the deviations
of the pictures from their mean over time must correlate, and the pictures themselves must look alike too.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from opendimo.pipelines.duplicates.pictures import LOW, WHOLE, Edges, distances, frequencies, hashes

RATE = 10.0  # compared pictures ("moments") per second
FINE = 3  # offsets tested per moment
LAG = 2  # moments between two pictures whose difference is used as motion
MIN_MOMENTS = 15  # least shared footage; shorter is not conclusive
MIN_MOTION = 0.5  # least variation in time of the tiny pictures, grey levels; less is codec noise
PROMISING = 0.25  # least correlation of motions of an offset, before borders are fitted
SAME_PICTURE = 12  # bits; largest hash distance of the same picture
RUNNER_UP = 0.7  # least correlation of a second offset, relative to the best one
LOWEST = 6  # frequencies per axis used to find the offset: those that cropped borders change least
EVERY_EDGE = (0, 1, 2, 3)
STEPS = tuple((step, (edge,)) for step in (0.06, 0.03, 0.015) for edge in EVERY_EDGE)
"""Search steps for fitting borders: the width of a step, and the edges that it moves."""
TOGETHER = tuple((step, EVERY_EDGE) for step in (0.05, 0.04))
"""Search steps tried before `STEPS`, for pictures that were cropped on all sides."""

Film = NDArray[np.float64]  # [n, SIDE, SIDE] at RATE (or FINE times that)


@dataclass(frozen=True)
class Evidence:
    """Footage of a clip that was found in another clip.

    `offset`: start of the clip in the other, seconds. `start` to `end`: span of the clip that was found, seconds.
    `similarity`: correlation of the changes in both. `distance`: median distance of the hashes, bits.
    """

    offset: float
    start: float
    end: float
    similarity: float
    distance: float


@dataclass(frozen=True)
class _Overlap:
    """Pictures of the same moments in both clips, the number of the first moment, and the cropped borders."""

    first: int
    clip: Film
    other: Film
    cut: Edges = WHOLE  # positive: crop the other, negative: crop the clip

    def low(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the frequencies [n, 64] of both after cropping."""
        of_clip, of_other = _crops(self.cut)
        return frequencies(self.clip, of_clip), frequencies(self.other, of_other)


def same_footage(clip: NDArray[np.uint8], step: float, other: NDArray[np.uint8], other_step: float) -> Evidence | None:
    """Search the footage of `clip` in `other`.

    Both are pictures [n, SIDE, SIDE], one every `step` and `other_step` seconds. Returns None if the footage is not
    found, or if the clips share too little or move too little to decide.
    """
    a, b = at_rate(clip, step, RATE), at_rate(other, other_step, RATE * FINE)
    if min(len(a), len(b) // FINE) < MIN_MOMENTS + LAG:
        return None
    best: tuple[float, int, _Overlap] | None = None
    for offset in _offsets(a, b):
        fitted = _fit_borders(_overlap(a, b, offset))
        if best is None or _similarity(fitted) > best[0]:
            best = _similarity(fitted), offset, fitted
    return None if best is None else _evidence(best[2], best[1])


def _evidence(overlap: _Overlap, offset: int) -> Evidence | None:
    low = overlap.low()
    if min(_motion(part) for part in low) < MIN_MOTION:
        return None
    apart = distances(*(hashes(part) for part in low))
    alike = np.flatnonzero(apart <= SAME_PICTURE) + overlap.first
    if len(alike) < MIN_MOMENTS:
        return None
    return Evidence(
        offset=offset / FINE / RATE,
        start=float(alike[0]) / RATE,
        end=float(alike[-1] + 1) / RATE,
        similarity=_similarity(overlap),
        distance=float(np.median(apart)),
    )


def _offsets(a: Film, b: Film) -> list[int]:
    """Return up to two promising offsets, in steps of `b`: the best correlation of motions, and the best away from it.

    Memory is linear in the length of both clips: the sums of all offsets are accumulated moment by moment of `a`.
    """
    motions = []
    for film, lag in ((a, LAG), (b, LAG * FINE)):
        low = frequencies(film).reshape(-1, LOW, LOW)[:, :LOWEST, :LOWEST].reshape(len(film), -1)[:, 1:]
        motions.append(low[lag:] - low[:-lag])
    x, y = motions
    norms, y_norms = (x**2).sum(1), (y**2).sum(1)
    first = FINE * (len(x) - 1)  # index of offset 0
    products, of_x, of_y, moments = np.zeros((4, first + len(y)))
    for k, motion in enumerate(x):
        overlapping = slice(first - FINE * k, first - FINE * k + len(y))
        products[overlapping] += y @ motion
        of_x[overlapping] += norms[k]
        of_y[overlapping] += y_norms
        moments[overlapping] += 1
    correlations = products / (np.sqrt(of_x * of_y) + 1e-9)
    correlations[moments < MIN_MOMENTS] = -1
    offsets: list[int] = []
    best = float(correlations.max(initial=-1))
    for _ in range(2):
        index = int(correlations.argmax())
        if correlations[index] < max(PROMISING, RUNNER_UP * best):
            break
        offsets.append(index - first)
        correlations[max(0, index - FINE * LAG) : index + FINE * LAG + 1] = -1
    return offsets


def _fit_borders(overlap: _Overlap) -> _Overlap:
    """Crop the borders of either clip, edge by edge, as long as that increases the similarity."""
    subsampling = max(1, len(overlap.clip) // 32)
    sample = replace(overlap, clip=overlap.clip[::subsampling], other=overlap.other[::subsampling])
    candidates = [_hill_climb(sample, STEPS)]
    if (cropped := _hill_climb(sample, TOGETHER)).cut != sample.cut:
        candidates.append(_hill_climb(cropped, STEPS))
    return replace(overlap, cut=max(candidates, key=_similarity).cut)


def _hill_climb(best: _Overlap, steps: tuple[tuple[float, tuple[int, ...]], ...]) -> _Overlap:
    score = _similarity(best)
    for step, edges in steps:
        for sign in (1, -1):
            candidate = replace(best, cut=_shifted_edges(best.cut, sign * step, edges))
            if (candidate_score := _similarity(candidate)) > score:
                best, score = candidate, candidate_score
    return best


def _similarity(overlap: _Overlap) -> float:
    """Return the correlation of the changes: of the pictures less their means over time."""
    x, y = ((part - part.mean(0))[:, 1:] for part in overlap.low())
    return float((x * y).sum() / (np.sqrt((x**2).sum() * (y**2).sum()) + 1e-9))


def _motion(low: NDArray[np.float64]) -> float:
    """Return the standard deviation over time of the tiny pictures' pixels, in grey levels."""
    return float(np.sqrt(((low - low.mean(0))[:, 1:] ** 2).sum(1).mean() / LOW**2 / 4))


def _overlap(a: Film, b: Film, offset: int) -> _Overlap:
    moments = np.arange(len(a))
    positions = moments * FINE + offset
    shared = moments[(positions >= 0) & (positions < len(b))]
    return _Overlap(int(shared[0]), a[shared], b[shared * FINE + offset])


def _shifted_edges(cut: Edges, step: float, edges: tuple[int, ...]) -> Edges:
    top, bottom, left, right = (share + step * (edge in edges) for edge, share in enumerate(cut))
    return top, bottom, left, right


def _crops(cut: Edges) -> tuple[Edges, Edges]:
    """Return the crops of the clip and of the other clip."""
    (a, b, c, d), (e, f, g, h) = ([round(max(0.0, sign * edge), 3) for edge in cut] for sign in (-1, 1))
    return (a, b, c, d), (e, f, g, h)


def at_rate(pictures: NDArray[np.uint8], step: float, rate: float) -> Film:
    """Resample pictures, one every `step` seconds, to `rate` per second by linear interpolation."""
    if len(pictures) < 2:
        return pictures.astype(np.float64)
    positions = np.arange(0, (len(pictures) - 1) * step + 1e-9, 1 / rate) / step
    before = np.minimum(positions.astype(int), len(pictures) - 2)
    weight = (positions - before)[:, None, None]
    return pictures[before] * (1 - weight) + pictures[before + 1] * weight
