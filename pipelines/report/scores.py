"""Histograms of the clips' scores, with the thresholds of the policy."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pyarrow as pa

from opendimo.pipelines.quality.policy import Policy
from opendimo.pipelines.report.plots import Scale, significant

BINS = 24
WIDTH, HEIGHT = 300.0, 120.0
LEFT, RIGHT, TOP, BOTTOM = 8.0, 292.0, 18.0, 98.0


@dataclass(frozen=True)
class Score:
    """A score and the names of the policy's limits on it."""

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
    Score("second_share", "Second person", "share of frames", high="max_second_share"),
    Score("sharpness", "Sharpness", "variance of the Laplacian", low="min_sharpness", log=True, least_top=100.0),
    Score("motion", "Background motion", "per frame, over the diagonal", high="max_motion", least_top=0.01),
    Score("exposure", "Exposure", "median luma", low="min_exposure", high="max_exposure"),
    Score("clipping", "Clipped light", "share of black and white pixels", high="max_clipping", least_top=0.1),
    Score("bars", "Black bars", "share of the kept picture", high="max_bars", least_top=0.1),
    Score("hdr_share", "HDR", "share of the picture that SDR cannot show", high="max_hdr_share", least_top=0.1),
    Score("text_share", "Text", "share of the picture", high="max_text_share", least_top=0.1),
    Score("person_pixels", "Person size", "pixels of the source", low="min_person_pixels", least_top=480.0),
    Score("subject_sharpness", "Person's sharpness", "variance of the Laplacian", "min_subject_sharpness",
          log=True, least_top=100.0),
    Score("subject_motion", "Person's motion", "per frame, over the diagonal", "min_subject_motion", least_top=0.01),
    Score("body_visible", "Body visible", "share of limb joints", low="min_body_visible"),
    Score("hands_visible", "Hands visible", "share of frames with a hand", low="min_hands_visible"),
    Score("truncation", "Truncation", "share of landmarks outside", high="max_truncation"),
    Score("at_border", "At the border", "share of looks", high="max_at_border"),
    Score("occlusion", "Occlusion", "share of the box under another", high="max_occlusion"),
)  # fmt: skip


@dataclass(frozen=True)
class Bar:
    """One bin: its position, and the heights of kept and (stacked on top) filtered clips, in drawing units."""

    x: float
    width: float
    kept_y: float
    kept_height: float
    filtered_y: float
    filtered_height: float
    label: str


@dataclass(frozen=True)
class Histogram:
    """A plot of WIDTH x HEIGHT. `limits`: (x, value, x of the rejected side, its width)."""

    score: Score
    bars: list[Bar]
    ticks: list[tuple[float, str]]
    limits: list[tuple[float, str, float, float]]
    summary: str


def histograms(clips: pa.Table, policy: Policy) -> list[Histogram]:
    """Return one histogram per score. `clips` has a column `reason` with the verdict on each clip (null: kept)."""
    kept = clips["reason"].is_null().to_numpy()
    return [_histogram(score, clips[score.column].to_numpy().astype(float), kept, policy) for score in SCORES]


def _histogram(score: Score, values: np.ndarray, kept: np.ndarray, policy: Policy) -> Histogram:
    named = {side: name for side in ("low", "high") if (name := getattr(score, side))}
    limits = {side: value for side, name in named.items() if (value := getattr(policy, name)) is not None}
    finite = np.isfinite(values)
    values, kept = values[finite], kept[finite]
    top = float(max([score.least_top, values.max(initial=0.0), *limits.values()]))
    scale = Scale(1.0 if score.log else 0.0, top, LEFT, RIGHT, log=score.log)
    places = [scale(value) for value in limits.values()]
    edges = _edges(places)
    # a value equal to a limit is kept, so close the bins on the kept side
    closed_right = score.low is None
    which = np.searchsorted(edges, scale.places(values), side="left" if closed_right else "right") - 1
    which = np.clip(which, 0, len(edges) - 2)
    counts = [np.bincount(which[mask], minlength=len(edges) - 1) for mask in (kept, ~kept)]
    tallest = max(1, int((counts[0] + counts[1]).max()))
    unit = (BOTTOM - TOP) / tallest
    bars = [_bar(edges[k], edges[k + 1], int(counts[0][k]), int(counts[1][k]), unit) for k in sorted(set(which))]
    lines = []
    for side, value in limits.items():
        x = scale(value)
        lines.append((x, f"{value:g}", LEFT if side == "low" else x, x - LEFT if side == "low" else RIGHT - x))
    ends = [significant(float(f(values))) for f in (np.median, np.min, np.max)] if len(values) else []
    summary = "median {}, from {} to {}; tallest bar {:,}".format(*ends, tallest) if ends else "nothing measured"
    missing = f", {int((~finite).sum())} not measured" if ends and not finite.all() else ""
    return Histogram(score, bars, [(scale(t), f"{t:g}") for t in scale.ticks()], lines, summary + missing)


def _edges(limits: list[float]) -> np.ndarray:
    """Return the edges of about `BINS` bins from LEFT to RIGHT; no bin contains a limit inside."""
    stops = [LEFT, *sorted(limits), RIGHT]
    pieces = [
        np.linspace(a, b, max(1, round(BINS * (b - a) / (RIGHT - LEFT))), endpoint=False)
        for a, b in pairwise(stops)
        if b > a
    ]
    return np.array([*np.concatenate(pieces), RIGHT])


def _bar(left: float, right: float, kept: int, filtered: int, unit: float) -> Bar:
    kept_y = BOTTOM - kept * unit
    return Bar(
        x=round(left + 0.5, 1),
        width=round(max(1.0, right - left - 1), 1),
        kept_y=round(kept_y, 1),
        kept_height=round(kept * unit, 1),
        filtered_y=round(kept_y - filtered * unit, 1),
        filtered_height=round(filtered * unit, 1),
        label=f"{kept:,} kept, {filtered:,} filtered",
    )
