"""Plot `metrics.jsonl` of a training run: the loss of each step, and the fixed loss before and after each stage."""

import json
import math
from dataclasses import dataclass
from pathlib import Path

from opendimo.pipelines.report.plots import Point, Scale, polyline, thin
from opendimo.storage_schemas.rows import Row

WIDTH, HEIGHT = 720.0, 250.0
LEFT, RIGHT, TOP, BOTTOM = 52.0, 708.0, 26.0, 218.0
MOST_POINTS = 500
SMOOTH = 0.95  # weight of the past in the running mean


@dataclass(frozen=True)
class StageSummary:
    """One stage of training. `before` and `after`: its `stage_start` and `stage_end` events, empty if missing."""

    name: str
    steps: int
    mix: dict[str, float]
    before: Row
    after: Row
    seconds_per_step: float | None


@dataclass(frozen=True)
class Curve:
    """A plot of WIDTH x HEIGHT. `line`: value of each step; `smooth`: running mean; `fixed`: fixed losses per stage;
    `spans`: (x, width, name) of each stage; ticks of both axes."""

    title: str
    line: str
    smooth: str
    fixed: list[list[Point]]
    spans: list[tuple[float, float, str]]
    x_ticks: list[tuple[float, str]]
    y_ticks: list[tuple[float, str]]


@dataclass(frozen=True)
class Losses:
    """Curves and stages of a training run. `starts_from`: (what, name, about) of the initial weights."""

    steps: int
    starts_from: list[tuple[str, str, str]]
    stages: list[StageSummary]
    curves: list[Curve]


def read_losses(training: Path) -> Losses | None:
    """Read the curves of the run in the folder `training`; return None if it has no metrics yet."""
    records = read_records(training / "metrics.jsonl")
    steps = [r for r in records if "event" not in r and isinstance(r.get("step"), int) and "stage" in r]
    if not steps:
        return None
    stages = [_summary(name, steps, records) for name in dict.fromkeys(str(r["stage"]) for r in steps)]
    curves = [
        _curve("Loss per step", "loss", steps, records, smooth=True),
        _curve("Weight of the geometry loss", "geometry_weight", steps, records, smooth=False),
    ]
    start = next((r for r in records if r.get("event") == "start"), {})
    weights = [w for w in start.get("starts_from") or [] if isinstance(w, dict)]
    starts_from = [(str(w.get("what", "")), str(w.get("name", "")), str(w.get("about", ""))) for w in weights]
    return Losses(steps[-1]["step"], starts_from, stages, [curve for curve in curves if curve])


def read_records(path: Path) -> list[Row]:
    """Read the JSON objects of a .jsonl file; return [] if it does not exist.

    Skips lines that do not parse, because the last line may be incomplete during training.
    """
    if not path.is_file():
        return []
    records = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict):
            records.append(record)
    return records


def _summary(name: str, steps: list[Row], records: list[Row]) -> StageSummary:
    stage_steps = [r for r in steps if str(r["stage"]) == name]
    events = {r["event"]: r for r in records if "event" in r and str(r.get("stage")) == name}
    seconds = [s for r in stage_steps if (s := number(r.get("seconds"))) is not None]
    before, after = events.get("stage_start", {}), events.get("stage_end", {})
    return StageSummary(
        name, len(stage_steps), before.get("mix", {}), before, after, sum(seconds) / len(seconds) if seconds else None
    )


def _curve(title: str, column: str, steps: list[Row], records: list[Row], *, smooth: bool) -> Curve | None:
    points = [(float(r["step"]), value) for r in steps if (value := number(r.get(column))) is not None]
    if not points:
        return None
    fixed = _fixed(records) if smooth else []
    values = sorted(y for _, y in points)
    # scale to the 99th percentile, so that a few outliers do not flatten the curve
    top = max([values[min(len(values) - 1, int(0.99 * len(values)))], *(y for line in fixed for _, y in line), 1e-9])
    across = Scale(0, max(1.0, points[-1][0]), LEFT, RIGHT)
    upward = Scale(0, top * 1.08, BOTTOM, TOP)

    def draw(line: list[Point]) -> list[Point]:
        return [(across(x), upward(y)) for x, y in line]

    return Curve(
        title,
        polyline(draw(thin(points, MOST_POINTS))),
        polyline(draw(thin(_running_mean(points), MOST_POINTS))) if smooth else "",
        [draw(line) for line in fixed],
        _spans(steps, across),
        [(across(t), f"{t:g}") for t in across.ticks(6)],
        [(upward(t), f"{t:g}") for t in upward.ticks(4)],
    )


def _fixed(records: list[Row]) -> list[list[Point]]:
    """Return the fixed losses (step, loss) of each stage, in order."""
    lines: dict[str, list[Point]] = {}
    for record in records:
        if "event" in record and (value := number(record.get("fixed_loss"))) is not None:
            lines.setdefault(str(record.get("stage")), []).append((float(record.get("step", 0)), value))
    return list(lines.values())


def _spans(steps: list[Row], across: Scale) -> list[tuple[float, float, str]]:
    spans = []
    for name in dict.fromkeys(str(r["stage"]) for r in steps):
        numbers = [r["step"] for r in steps if str(r["stage"]) == name]
        start, end = across(min(numbers) - 1), across(max(numbers))
        spans.append((start, round(end - start, 1), name))
    return spans


def _running_mean(points: list[Point]) -> list[Point]:
    """Return the exponential running mean with bias correction."""
    total = weight = 0.0
    smooth = []
    for x, y in points:
        total, weight = SMOOTH * total + (1 - SMOOTH) * y, SMOOTH * weight + (1 - SMOOTH)
        smooth.append((x, total / weight))
    return smooth


def number(value: object) -> float | None:
    """Return `value` as a float if it is a finite number, else None."""
    return float(value) if isinstance(value, (int, float)) and math.isfinite(value) else None
