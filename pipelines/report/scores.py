"""Histograms of the clips' scores, with the policy's thresholds on them."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from pipelines.quality import Policy
from pipelines.report.plots import Scale

Row = dict[str, Any]
BINS = 24
WIDTH, HEIGHT = 300.0, 120.0
LEFT, RIGHT, TOP, BOTTOM = 8.0, 292.0, 18.0, 98.0


@dataclass(frozen=True)
class Score:
    """A column of `clips` and the policy's limits on it."""

    column: str
    title: str
    about: str
    low: str | None = None
    high: str | None = None
    log: bool = False
    least_top: float = 1.0


SCORES = (
    Score("person_height", "Person height", "over the frame height", low="min_person_height"),
    Score("person_share", "Person visible", "share of frames", low="min_person_share"),
    Score("people", "People", "per frame, of comparable size", high="max_people", least_top=2.0),
    Score("sharpness", "Sharpness", "variance of the Laplacian", low="min_sharpness", log=True, least_top=100.0),
    Score("motion", "Background motion", "per frame, over the diagonal", least_top=0.01),
    Score("exposure", "Exposure", "median luma", low="min_exposure", high="max_exposure"),
)


@dataclass(frozen=True)
class Bar:
    """One bin: its place, and the heights of kept and (on top) filtered clips, in units of the drawing."""

    x: float
    width: float
    kept_y: float
    kept_height: float
    filtered_y: float
    filtered_height: float
    label: str


@dataclass(frozen=True)
class Histogram:
    """A drawing of WIDTH x HEIGHT. `limits`: (x, value, x of the rejected side, its width)."""

    score: Score
    bars: list[Bar]
    ticks: list[tuple[float, str]]
    limits: list[tuple[float, str, float, float]]
    summary: str


def histograms(clips: list[Row], reasons: dict[str, str | None], policy: Policy) -> list[Histogram]:
    """One histogram per score over all clips; `reasons` is the verdict of each (None: kept)."""
    kept = np.array([reasons[clip["clip_id"]] is None for clip in clips], bool)
    return [_histogram(score, np.array([clip[score.column] for clip in clips]), kept, policy) for score in SCORES]


def _histogram(score: Score, values: np.ndarray, kept: np.ndarray, policy: Policy) -> Histogram:
    limits = {side: getattr(policy, name) for side in ("low", "high") if (name := getattr(score, side))}
    finite = np.isfinite(values)
    values, kept = values[finite].astype(float), kept[finite]
    top = float(max([score.least_top, *values, *limits.values()]))
    scale = Scale(1.0 if score.log else 0.0, top, LEFT, RIGHT, log=score.log)
    place = np.array([scale(value) for value in values])
    edges = np.linspace(LEFT, RIGHT, BINS + 1)
    kept_counts, filtered_counts = (np.histogram(place[which], edges)[0] for which in (kept, ~kept))
    tallest = max(1, int((kept_counts + filtered_counts).max()))
    unit = (BOTTOM - TOP) / tallest
    bars = []
    for k in np.flatnonzero(kept_counts + filtered_counts):
        n_kept, n_filtered = int(kept_counts[k]), int(filtered_counts[k])
        kept_y = BOTTOM - n_kept * unit
        filtered_y = kept_y - n_filtered * unit
        label = f"{n_kept} kept, {n_filtered} filtered"
        bars.append(
            Bar(
                round(float(edges[k]) + 0.5, 1),
                round(float(edges[1] - edges[0]) - 1, 1),
                *(round(v, 1) for v in (kept_y, n_kept * unit, filtered_y, n_filtered * unit)),
                label,
            )
        )
    lines = []
    for side, value in limits.items():
        x = scale(value)
        lines.append((x, f"{value:g}", LEFT if side == "low" else x, x - LEFT if side == "low" else RIGHT - x))
    middle = f"median {np.median(values):.3g}, from {values.min():.3g} to {values.max():.3g}" if len(values) else ""
    missing = f", {int((~finite).sum())} not measured" if not finite.all() else ""
    return Histogram(score, bars, [(scale(t), f"{t:g}") for t in scale.ticks()], lines, middle + missing)
