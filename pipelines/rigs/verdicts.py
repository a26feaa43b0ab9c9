"""Give each camera of a rig a verdict, from its time offset and its residuals."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from opendimo.pipelines.rigs.current import LATE, OK, QUARANTINED, UNCHECKED
from opendimo.pipelines.rigs.epipolar import Seen
from opendimo.pipelines.rigs.offsets import Offsets
from opendimo.pipelines.rigs.residuals import Residuals, measure
from opendimo.pipelines.rigs.views import Array


@dataclass(frozen=True)
class Limits:
    """Thresholds of the verdicts. `late`: least offset in frames of a camera that is out of sync, provided that the
    pairwise residual is smaller than the offset. `off`: median residual over the size of the detected person or board
    above which a camera contradicts its calibration. `observations`: minimum number of points for a check."""

    late: float = 0.75
    off: float = 0.05
    observations: int = 50


@dataclass(frozen=True)
class Checked:
    """Residuals against the points on which the `trusted` views agree. `checked`: views with enough observations.
    `share` [V]: residual over the size of the detected person or board."""

    residuals: Residuals
    trusted: list[bool]
    checked: list[bool]
    share: Array


def check(views: list[Seen], limits: Limits) -> Checked:
    """Exclude the worst view while its residual exceeds the limit, and measure again without it.

    If only two views are left and contradict each other, neither is trusted, because the wrong one is unknown.
    """
    trusted = [bool((view.points[..., 2] > 0).any()) for view in views]
    if sum(trusted) < 2:
        return _nothing(views)
    while True:
        residuals = measure(views, trusted)
        sizes = np.array([view.extent for view in views])
        # points on which no views agree have no reprojection residual, so use the epipolar one as well
        share = np.fmax(residuals.reprojection, residuals.epipolar) / sizes
        worst = int(np.argmax(np.where(trusted, np.nan_to_num(share, nan=0.0), -1)))
        if share[worst] <= limits.off or not share[worst] > 0:
            break
        if sum(trusted) == 2:
            trusted = [False] * len(views)
            break
        trusted = [ok and k != worst for k, ok in enumerate(trusted)]
    enough_points = [int((view.points[..., 2] > 0).sum()) >= limits.observations for view in views]
    enough = [ok and bool(np.isfinite(share[k])) for k, ok in enumerate(enough_points)]
    return Checked(residuals, trusted, enough, share)


def judge(views: list[Seen], offsets: Offsets | None, checked: Checked, limits: Limits) -> list[dict[str, Any]]:
    """Return the `cameras` of a row of `rigs`: the verdict on each view, with its measurements."""
    residuals, rows = checked.residuals, []
    for k, view in enumerate(views):
        late = float(offsets.frames[k]) if offsets else float("nan")
        notes = []
        if checked.checked[k] and not checked.trusted[k]:
            verdict = QUARANTINED
            both = "" if any(checked.trusted) else "; the views contradict each other, and it is unknown which is wrong"
            notes.append(f"off by {checked.share[k]:.1%} of the size of what it sees (limit {limits.off:.0%}){both}")
            if offsets and offsets.estimator == "motion":
                late = float("nan")  # motion was compared with a wrong camera pose, so the offset is unreliable
        elif offsets and abs(late) >= limits.late and abs(late) > offsets.residual[k]:
            verdict = LATE
            notes.append(f"{abs(late):.1f} frames {'late' if late > 0 else 'early'} by {offsets.estimator}")
        else:
            verdict = OK if checked.checked[k] else UNCHECKED
        if not checked.checked[k]:
            notes.append("too few points to check its calibration")
        if np.isnan(late) and verdict != QUARANTINED:
            notes.append("its time offset is unknown")
        rows.append(
            {
                "view": view.view.name,
                "offset_frames": _number(late),
                "offset_residual": _number(offsets.residual[k]) if offsets and not np.isnan(late) else None,
                "residual_px": _number(residuals.reprojection[k]),
                "epipolar_px": _number(residuals.epipolar[k]),
                "observations": residuals.observations[k],
                "verdict": verdict,
                "note": "; ".join(notes) or None,
            }
        )
    return rows


def in_time(views: list[Seen], offsets: Offsets | None) -> list[Seen]:
    """Return the views resampled onto the clock of the rig, as far as their offsets are known.

    A view that was already sampled with a shift is moved only by the rest of its offset.
    """
    if offsets is None:
        return views
    known = np.nan_to_num(offsets.frames)
    return [view.late(float(off) - view.shift) for view, off in zip(views, known, strict=True)]


def unseen(views: list[Seen]) -> list[Seen]:
    """Return the views without their detected points, for views that may not show the same person."""
    return [replace(view, points=np.zeros_like(view.points)) for view in views]


def _nothing(views: list[Seen]) -> Checked:
    unknown = np.full(len(views), np.nan)
    points = np.zeros((*views[0].points.shape[:3], 4))
    residuals = Residuals(points, unknown, unknown, [0] * len(views))
    return Checked(residuals, [True] * len(views), [False] * len(views), unknown)


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
