"""What is to be thought of each camera of a rig, from its offset and its residuals."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from opendimo.pipelines.rigs.epipolar import Seen
from opendimo.pipelines.rigs.offsets import Offsets
from opendimo.pipelines.rigs.residuals import Residuals, measure
from opendimo.pipelines.rigs.views import Array

OK, LATE, QUARANTINED, UNCHECKED = "ok", "late", "quarantined", "unchecked"


@dataclass(frozen=True)
class Limits:
    """`late`: frames from which on a camera is not in time, if pairs of views agree to less than its offset. `off`:
    median residual over the size of what is seen (the person, the board) from which on a camera is not where its
    calibration says. `observations`: fewest points that say anything."""

    late: float = 0.75
    off: float = 0.05
    observations: int = 50


@dataclass(frozen=True)
class Checked:
    """Residuals about what the `trusted` views agree on; `checked`: views that see enough of it."""

    residuals: Residuals
    trusted: list[bool]
    checked: list[bool]
    share: Array


def check(views: list[Seen], limits: Limits) -> Checked:
    """Take the worst view away, as long as it is off by too much, and let the others decide without it.

    Of two views that contradict each other nobody knows which is wrong: neither is trusted.
    """
    trusted = [bool((view.points[..., 2] > 0).any()) for view in views]
    if sum(trusted) < 2:
        return _nothing(views)
    while True:
        found = measure(views, trusted)
        sizes = np.array([view.extent for view in views])
        # points on which nobody agrees have no reprojection residual, so the epipolar one counts as well
        share = np.fmax(found.reprojection, found.epipolar) / sizes
        worst = int(np.argmax(np.where(trusted, np.nan_to_num(share, nan=0.0), -1)))
        if share[worst] <= limits.off or not share[worst] > 0:
            break
        if sum(trusted) == 2:
            trusted = [False] * len(views)
            break
        trusted = [ok and k != worst for k, ok in enumerate(trusted)]
    seen = [int((view.points[..., 2] > 0).sum()) >= limits.observations for view in views]
    enough = [ok and bool(np.isfinite(share[k])) for k, ok in enumerate(seen)]
    return Checked(found, trusted, enough, share)


def judge(views: list[Seen], offsets: Offsets | None, checked: Checked, limits: Limits) -> list[dict[str, Any]]:
    """The `cameras` of a row of `rigs`: a verdict on each view, with numbers."""
    found, rows = checked.residuals, []
    for k, view in enumerate(views):
        late = float(offsets.frames[k]) if offsets else float("nan")
        notes = []
        if checked.checked[k] and not checked.trusted[k]:
            verdict = QUARANTINED
            both = "" if any(checked.trusted) else "; the views contradict each other, and nobody knows which is wrong"
            notes.append(f"off by {checked.share[k]:.1%} of the size of what it sees (limit {limits.off:.0%}){both}")
            if offsets and offsets.witness == "motion":
                late = float("nan")  # its motion was compared with where it is not
        elif offsets and abs(late) >= limits.late and abs(late) > offsets.residual[k]:
            verdict = LATE
            notes.append(f"{abs(late):.1f} frames {'late' if late > 0 else 'early'} by {offsets.witness}")
        else:
            verdict = OK if checked.checked[k] else UNCHECKED
        if not checked.checked[k]:
            notes.append("too little is seen to check where it is")
        if np.isnan(late) and verdict != QUARANTINED:
            notes.append("nothing tells whether it is in time")
        rows.append(
            {
                "view": view.view.name,
                "offset_frames": _number(late),
                "offset_residual": _number(offsets.residual[k]) if offsets and not np.isnan(late) else None,
                "residual_px": _number(found.reprojection[k]),
                "epipolar_px": _number(found.epipolar[k]),
                "observations": found.observations[k],
                "verdict": verdict,
                "note": "; ".join(notes) or None,
            }
        )
    return rows


def in_time(views: list[Seen], offsets: Offsets | None) -> list[Seen]:
    """The views as if they were all in time, as far as their offsets are known: what is left of the offset where a view
    was looked at later already."""
    if offsets is None:
        return views
    known = np.nan_to_num(offsets.frames)
    return [view.late(float(off) - view.shift) for view, off in zip(views, known, strict=True)]


def unseen(views: list[Seen]) -> list[Seen]:
    """The views without what was seen in them, where it is not clear that all saw the same."""
    return [replace(view, points=np.zeros_like(view.points)) for view in views]


def _nothing(views: list[Seen]) -> Checked:
    unknown = np.full(len(views), np.nan)
    points = np.zeros((*views[0].points.shape[:3], 4))
    residuals = Residuals(points, unknown, unknown, [0] * len(views))
    return Checked(residuals, [True] * len(views), [False] * len(views), unknown)


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
