"""Camera terms (words of a closed vocabulary with a speed and a span), and how to derive them from motion rates."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter1d
from scipy.signal import savgol_filter

from opendimo.storage_schemas.tables import CAMERA_TERMS

Array = NDArray[np.floating]

SPEEDS = ("slow", "medium", "fast")
_PAIRS = [("left", "right"), ("up", "down"), ("in", "out"), ("cw", "ccw")]
OPPOSITES = {
    f"{move}_{way}": f"{move}_{back}"
    for move in ("pan", "tilt", "roll", "dolly", "truck", "pedestal", "arc", "zoom")
    for pair in _PAIRS
    for way, back in (pair, pair[::-1])
}
"""Term -> the term of the opposite direction."""

CHANNELS = {
    "yaw": ("pan_left", "pan_right"),
    "pitch": ("tilt_down", "tilt_up"),
    "roll": ("roll_ccw", "roll_cw"),
    "right": ("truck_left", "truck_right"),
    "up": ("pedestal_down", "pedestal_up"),
    "forward": ("dolly_out", "dolly_in"),
    "zoom": ("zoom_out", "zoom_in"),
}
"""Axis of motion -> the terms for its negative and positive direction. Rates are radians/s for angles, subject
distances/s for translations, d(ln f)/dt for zoom: in these units equal rates move the image about equally."""

WINDOW_S = 0.6  # smoothing window, seconds: longer than hand shake, shorter than a deliberate move
MIN_RATE = 0.008  # half a degree or 0.8 % of the subject distance per second: the slowest deliberate push in
MIN_NET = 0.05  # 3 degrees, or 5 % of the subject distance
RATE_LIMITS = {  # slow below the first value, fast from the second
    "angle": (0.17, 0.5),  # 10 and 30 degrees/s
    "distance": (0.12, 0.4),
}
DOMINANCE = 0.4  # ignore a motion weaker than this share of the strongest of its family: side effect of a tilted camera
NOTICE = 0.12  # ignore a motion weaker than this share of the strongest of all: viewers do not notice it
FAMILIES = (("yaw", "pitch", "roll"), ("right", "up", "forward"))
NET_OVER_JITTER = 6.0  # the total of a move must exceed the jitter during it by this factor
MIN_RUN_S = 0.3  # shortest move, seconds
MIN_HOLD_S = 0.8  # shortest pause that counts as `static`, seconds
EDGE = 0.3  # a run ends where its rate falls below this share of its peak
SHAKE_RMS = 0.0025  # radians (0.14 degrees), or the same share of the subject distance
SHAKE_SHARE = 0.05  # rms jitter below this share of a move's travel in the window counts as part of that move
SPEED_OF_ANGLE = ("yaw", "pitch", "roll")
FOCAL_OVER_WIDTH = 1.2  # assumed if unknown, about 45 degrees across; a wrong value scales angles and distances


@dataclass(frozen=True, order=True)
class Term:
    """`term` of `CAMERA_TERMS` at `speed` (slow, medium, fast) over frames [start_frame, end_frame)."""

    start_frame: int
    end_frame: int
    term: str
    speed: str

    def __post_init__(self) -> None:
        if self.term not in CAMERA_TERMS or self.speed not in SPEEDS or not 0 <= self.start_frame < self.end_frame:
            raise ValueError(f"{self} is not a valid camera term: check the word, the speed and the span")

    def row(self) -> dict[str, Any]:
        """Return the term as stored in `captions.camera_terms`."""
        return asdict(self)


@dataclass(frozen=True)
class CameraMotion:
    """Result of one estimator: its name, terms in order of time (empty: unknown), and JSON-able measurements."""

    estimator: str
    terms: tuple[Term, ...]
    evidence: dict[str, Any]


def words(terms: Iterable[Term]) -> frozenset[str]:
    """Return the set of term words, without speeds and spans."""
    return frozenset(t.term for t in terms)


def overlap(a: Iterable[str], b: Iterable[str]) -> float:
    """Return the Jaccard overlap of two sets of words, 0 to 1 (1 for two empty sets)."""
    left, right = set(a), set(b)
    return len(left & right) / len(left | right) if left | right else 1.0


def smooth_rates(rates: Array, fps: float) -> Array:
    """Return the slope of a line fitted to the accumulated motion in a sliding window: `rates` [S, C] per second.

    Unlike a blur of the rates, this keeps a steady move exact up to both ends of the clip.
    """
    steps = len(rates)
    window = min(_odd(WINDOW_S * fps), steps if steps % 2 else steps - 1)
    if window < 3:
        return np.broadcast_to(rates.mean(axis=0), rates.shape).copy()
    return savgol_filter(np.cumsum(rates, axis=0) / fps, window, 1, deriv=1, delta=1 / fps, axis=0)


def jitter(rates: Array, fps: float) -> Array:
    """Return the local rms deviation of the accumulated motion from its smoothed path: `rates` [S, C] per second."""
    path = np.cumsum(rates, axis=0) / fps  # [S, C]
    window = min(_odd(WINDOW_S * fps), len(path) if len(path) % 2 else len(path) - 1)
    if window < 5:  # too short to distinguish shake from a move
        return np.zeros_like(path)
    residual = path - savgol_filter(path, window, 2, axis=0)
    # a running mean of squares can round to just below zero
    return np.sqrt(np.maximum(uniform_filter1d(residual**2, _odd(fps), axis=0, mode="reflect"), 0))


def runs(active: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Return the runs [start, end) in which `active` [S] is true."""
    edges = np.flatnonzero(np.diff(np.concatenate(([0], active.astype(np.int8), [0]))))
    return [(int(a), int(b)) for a, b in zip(edges[::2], edges[1::2], strict=True)]


def move_terms(rates: dict[str, Array], unrest: dict[str, Array], fps: float) -> list[Term]:
    """Return the smooth moves of each channel, from its smoothed rate and its jitter, both [S] for S = frames - 1.

    A move counts if its rate and its total are large enough to see, and if it is not just a side effect of a stronger
    motion of its family.
    """
    terms = []
    fastest = np.max(np.abs(list(rates.values())), axis=0)  # [S]
    for channel, rate in rates.items():
        family = next((f for f in FAMILIES if channel in f), (channel,))
        strongest = np.max([np.abs(rates[c]) for c in family if c in rates], axis=0)
        strong = np.abs(rate) >= np.maximum.reduce([DOMINANCE * strongest, NOTICE * fastest, 0 * rate + MIN_RATE])
        for sign, word in zip((-1, 1), CHANNELS[channel], strict=True):
            for run in runs(strong & (sign * rate > 0)):
                start, end = _trim(sign * rate, *run)
                net = float(np.sum(sign * rate[start:end]) / fps)
                least = max(MIN_NET, NET_OVER_JITTER * float(np.median(unrest[channel][start:end])))
                if net >= least and end - start >= min(MIN_RUN_S * fps, len(rate)):
                    terms.append(Term(start, end + 1, word, speed_word(channel, net * fps / (end - start))))
    return sorted(terms)


def shake_terms(unrest: Array, rates: Array, fps: float, least: float = SHAKE_RMS) -> list[Term]:
    """Return the spans of camera shake.

    `unrest` [S, C] from `jitter`, smoothed `rates` [S, C], both in the units of `CHANNELS`; `least`: minimum rms.
    """
    total = np.linalg.norm(unrest, axis=1)  # [S]
    travel = np.linalg.norm(rates, axis=1) * WINDOW_S
    terms = []
    for start, end in runs((total >= least) & (total >= SHAKE_SHARE * travel)):
        if end - start >= min(2 * MIN_RUN_S * fps, len(total)):
            strength = float(np.median(total[start:end])) / SHAKE_RMS
            speed = SPEEDS[int(strength >= 4) + int(strength >= 16)]
            terms.append(Term(start, end + 1, "shake", speed))
    return terms


def with_holds(terms: list[Term], frames: int, fps: float) -> tuple[Term, ...]:
    """Add `static` where no term holds for at least `MIN_HOLD_S` or the whole clip; return all terms sorted by time."""
    busy = np.zeros(frames, dtype=bool)
    for term in terms:
        busy[term.start_frame : term.end_frame] = True
    holds = [Term(a, b, "static", "slow") for a, b in runs(~busy) if b - a >= min(MIN_HOLD_S * fps, frames)]
    return tuple(sorted([*terms, *holds]))


def speed_word(channel: str, rate: float) -> str:
    """Return slow, medium or fast for a positive mean rate of a channel (in the units of `CHANNELS`)."""
    slow, fast = RATE_LIMITS["angle" if channel in SPEED_OF_ANGLE else "distance"]
    return SPEEDS[int(rate >= slow) + int(rate >= fast)]


def _trim(rate: Array, start: int, end: int) -> tuple[int, int]:
    """Cut the weak ends of a run, because smoothing spreads a sudden start or stop over half a window."""
    strong = np.flatnonzero(rate[start:end] >= EDGE * rate[start:end].max())
    return start + int(strong[0]), start + int(strong[-1]) + 1


def _odd(frames: float) -> int:
    return max(3, 2 * round(frames / 2) + 1)
