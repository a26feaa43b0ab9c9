"""Show whether a model follows the driving motion: `driver_check` events of `metrics.jsonl` as curves and tables."""

from dataclasses import dataclass
from pathlib import Path

from opendimo.pipelines.report.losses import BOTTOM, LEFT, RIGHT, TOP, number, read_records
from opendimo.pipelines.report.plots import Point, Scale, polyline
from opendimo.storage_schemas.rows import Row

LOSSES = {
    "true": "true driver", "other": "another performance's", "none": "no driver", "other_text": "another's text",
    "no_text": "no text",
}  # fmt: skip
"""Name of each measured loss -> its label; the first `DRAWN` are plotted."""
DRAWN = 3


@dataclass(frozen=True)
class Lines:
    """A line plot of the same size as `losses.Curve`. `lines`: (name, points of the polyline, single points); ticks of
    both axes."""

    title: str
    lines: list[tuple[str, str, list[Point]]]
    x_ticks: list[tuple[float, str]]
    y_ticks: list[tuple[float, str]]


@dataclass(frozen=True)
class DriverCheck:
    """All driver checks of a run as plots, and the numbers of the newest: rows of (name, losses), None if unknown."""

    newest: Row
    drawings: list[Lines]
    by_kind: list[tuple[str, list[float | None]]]
    by_noise: list[tuple[str, list[float | None]]]
    by_region: list[tuple[str, list[float | None]]]
    gap: float | None
    columns: list[str]


def read_driver_checks(training: Path) -> DriverCheck | None:
    """Read the driver checks of the run in the folder `training`; return None if there are none yet."""
    checks = [
        record
        for record in read_records(training / "metrics.jsonl")
        if record.get("event") == "driver_check" and isinstance(record.get("step"), int)
    ]
    if not checks:
        return None
    newest = checks[-1]
    kinds = {"all": newest.get("loss"), **_mapping(newest.get("by_kind"))}
    regions = _mapping(newest.get("by_region"))
    noise = [entry for entry in newest.get("by_noise") or [] if isinstance(entry, dict)]
    losses = {
        text: [(float(c["step"]), value) for c in checks if (value := _loss(c, name)) is not None]
        for name, text in list(LOSSES.items())[:DRAWN]
    }
    gaps = [(float(c["step"]), 100 * gap) for c in checks if (gap := number(c.get("gap"))) is not None]
    drawings = [_draw("Loss by driver", losses), _draw("Gap, % of the loss", {"another driver's": gaps})]
    return DriverCheck(
        newest,
        [drawing for drawing in drawings if drawing],
        [(kind, _numbers(values)) for kind, values in kinds.items() if isinstance(values, dict)],
        [(f"{sigma:g}", _numbers(e)) for e in noise if (sigma := number(e.get("sigma"))) is not None],
        [(name, _numbers(values)) for name, values in regions.items() if isinstance(values, dict)],
        number(newest.get("gap")),
        list(LOSSES.values()),
    )


def _draw(title: str, named: dict[str, list[Point]]) -> Lines | None:
    points = [point for line in named.values() for point in line]
    if not points:
        return None
    low, high = min(0.0, *(y for _, y in points), 0.0), max(1e-9, *(y for _, y in points), 1e-9)
    across = Scale(0, max(1.0, *(x for x, _ in points), 1.0), LEFT, RIGHT)
    upward = Scale(1.08 * low, 1.08 * high, BOTTOM, TOP)
    placed = {name: [(across(x), upward(y)) for x, y in line] for name, line in named.items() if line}
    return Lines(
        title,
        [(name, polyline(line), line) for name, line in placed.items()],
        [(across(t), f"{t:g}") for t in across.ticks(6)],
        [(upward(t), f"{t:g}") for t in upward.ticks(4)],
    )


def _loss(check: Row, name: str) -> float | None:
    return number(_mapping(check.get("loss")).get(name))


def _numbers(values: Row) -> list[float | None]:
    return [number(values.get(name)) for name in LOSSES]


def _mapping(value: object) -> Row:
    return value if isinstance(value, dict) else {}
