"""Whether two clips show the same footage: when, how much of it, and how sure that is.

Pictures of one static scene look alike whatever happens in it. So the witness is what changes: the course of the
pictures about their mean has to agree, moment by moment, and the pictures themselves have to look alike as well.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from opendimo.pipelines.duplicates.pictures import LOW, WHOLE, Edges, distances, frequencies, hashes

RATE = 10.0  # moments compared per second
FINE = 3  # steps of the offset per moment
LAG = 2  # moments between the pictures whose difference is a motion
MIN_MOMENTS = 15  # shorter footage in common tells nothing
MIN_MOTION = 0.5  # grey levels by which the tiny pictures vary in time; less is noise of the codec
PROMISING = 0.25  # correlation of motions before borders are fitted
SAME_PICTURE = 12  # bits
RUNNER_UP = 0.7  # of the best correlation: what a second offset needs to be looked at
LOWEST = 6  # frequencies per axis that tell the offset: those that cropped borders change least
EVERY_EDGE = (0, 1, 2, 3)
STEPS = tuple((step, (edge,)) for step in (0.06, 0.03, 0.015) for edge in EVERY_EDGE)
"""How borders are fitted: the width of a step, and the edges that it moves."""
TOGETHER = tuple((step, EVERY_EDGE) for step in (0.05, 0.04))
"""Steps before these, for pictures that were cut all around."""

Film = NDArray[np.float64]  # [n, SIDE, SIDE] at RATE (or FINE times that)


@dataclass(frozen=True)
class Evidence:
    """Footage of a clip found in another: seconds into the other at which the clip starts (`offset`), seconds of the
    clip that were found (`start` to `end`), the correlation of what changes in both, and the median distance of the
    hashes (bits)."""

    offset: float
    start: float
    end: float
    similarity: float
    distance: float


@dataclass(frozen=True)
class _Overlap:
    """Pictures of the same moments in both, by the number of the first moment, and how far the borders are cut."""

    first: int
    clip: Film
    other: Film
    cut: Edges = WHOLE  # positive: of the other, negative: of the clip

    def low(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Frequencies of both where the borders are cut, [n, 64]."""
        of_clip, of_other = _parts(self.cut)
        return frequencies(self.clip, of_clip), frequencies(self.other, of_other)


def same_footage(clip: NDArray[np.uint8], step: float, other: NDArray[np.uint8], other_step: float) -> Evidence | None:
    """Look for the footage of `clip` in `other`, pictures [n, SIDE, SIDE] every `step` seconds; None where it is not
    there, or where too little moves or is in common to tell."""
    a, b = _at_rate(clip, step, RATE), _at_rate(other, other_step, RATE * FINE)
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
    """Promising offsets, in steps of `b`: the best one by the motions, and the best one away from it.

    Memory goes with the length of both, not with its square: moment by moment of `a`, what it says of every offset.
    """
    motions = []
    for film, lag in ((a, LAG), (b, LAG * FINE)):
        low = frequencies(film).reshape(-1, LOW, LOW)[:, :LOWEST, :LOWEST].reshape(len(film), -1)[:, 1:]
        motions.append(low[lag:] - low[:-lag])
    x, y = motions
    norms, y_norms = (x**2).sum(1), (y**2).sum(1)
    first = FINE * (len(x) - 1)  # the place of offset 0
    products, of_x, of_y, moments = np.zeros((4, first + len(y)))
    for k, motion in enumerate(x):
        there = slice(first - FINE * k, first - FINE * k + len(y))
        products[there] += y @ motion
        of_x[there] += norms[k]
        of_y[there] += y_norms
        moments[there] += 1
    found = products / (np.sqrt(of_x * of_y) + 1e-9)
    found[moments < MIN_MOMENTS] = -1
    chosen: list[int] = []
    best = float(found.max(initial=-1))
    for _ in range(2):
        place = int(found.argmax())
        if found[place] < max(PROMISING, RUNNER_UP * best):
            break
        chosen.append(place - first)
        found[max(0, place - FINE * LAG) : place + FINE * LAG + 1] = -1
    return chosen


def _fit_borders(overlap: _Overlap) -> _Overlap:
    """Cut the borders of one or the other, edge by edge, as far as that makes them more similar."""
    thin = max(1, len(overlap.clip) // 32)
    whole = replace(overlap, clip=overlap.clip[::thin], other=overlap.other[::thin])
    tried = [_fitted(whole, STEPS)]
    if (smaller := _fitted(whole, TOGETHER)).cut != whole.cut:
        tried.append(_fitted(smaller, STEPS))
    return replace(overlap, cut=max(tried, key=_similarity).cut)


def _fitted(best: _Overlap, steps: tuple[tuple[float, tuple[int, ...]], ...]) -> _Overlap:
    score = _similarity(best)
    for step, edges in steps:
        for sign in (1, -1):
            tried = replace(best, cut=_moved(best.cut, sign * step, edges))
            if (found := _similarity(tried)) > score:
                best, score = tried, found
    return best


def _similarity(overlap: _Overlap) -> float:
    """Correlation of what changes: of the pictures about their means over time."""
    x, y = ((part - part.mean(0))[:, 1:] for part in overlap.low())
    return float((x * y).sum() / (np.sqrt((x**2).sum() * (y**2).sum()) + 1e-9))


def _motion(low: NDArray[np.float64]) -> float:
    """By how many grey levels the pixels of the tiny pictures vary in time."""
    return float(np.sqrt(((low - low.mean(0))[:, 1:] ** 2).sum(1).mean() / LOW**2 / 4))


def _overlap(a: Film, b: Film, offset: int) -> _Overlap:
    moments = np.arange(len(a))
    places = moments * FINE + offset
    there = moments[(places >= 0) & (places < len(b))]
    return _Overlap(int(there[0]), a[there], b[there * FINE + offset])


def _moved(cut: Edges, step: float, edges: tuple[int, ...]) -> Edges:
    top, bottom, left, right = (share + step * (edge in edges) for edge, share in enumerate(cut))
    return top, bottom, left, right


def _parts(cut: Edges) -> tuple[Edges, Edges]:
    """What is cut of the clip, and of the other."""
    (a, b, c, d), (e, f, g, h) = ([round(max(0.0, sign * edge), 3) for edge in cut] for sign in (-1, 1))
    return (a, b, c, d), (e, f, g, h)


def _at_rate(pictures: NDArray[np.uint8], step: float, rate: float) -> Film:
    """Pictures every `step` seconds -> `rate` per second, between two the mixture of both."""
    if len(pictures) < 2:
        return pictures.astype(np.float64)
    at = np.arange(0, (len(pictures) - 1) * step + 1e-9, 1 / rate) / step
    before = np.minimum(at.astype(int), len(pictures) - 2)
    share = (at - before)[:, None, None]
    return pictures[before] * (1 - share) + pictures[before + 1] * share
