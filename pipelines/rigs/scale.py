"""Compare the measured size of the board, or of people, with its true size: are the calibration's lengths metres?"""

from dataclasses import dataclass

import numpy as np

from opendimo.pipelines.rigs.board import Board
from opendimo.pipelines.rigs.gravity import BODY, body_length
from opendimo.pipelines.rigs.views import Array
from opendimo.pipelines.sources.plausible import unit_of

SQUARE_OFF = 0.05
"""Relative error of the measured board squares above which lengths are not metres."""
USUAL_BODY = 1.3
"""Usual distance from shoulders to ankles, metres."""


@dataclass(frozen=True)
class Scale:
    """`ratio` of the measured to the true size of `what`; `wrong`: whether it rules out that lengths are metres."""

    what: str
    ratio: float
    wrong: bool

    @property
    def note(self) -> str:
        """What is wrong, and what to do."""
        unit = unit_of(self.ratio)
        advice = f"multiply its lengths by {1 / self.ratio:.3g}"
        if unit not in (None, "m"):
            advice = f"if its lengths are in {unit}, ingest it again with --unit {unit}"
        return f"{self.what} measures {self.ratio:.3g} times its true size by this calibration: {advice}"


def measure_scale(points: Array, board: Board | None, target: str) -> Scale | None:
    """Return the scale by `points` [F, P, 4] (x, y, z in the world, confidence) of the board, or of people if `target`
    is `people`; None if the size of neither is known."""
    if board is not None and board.square:
        a, b = (list(side) for side in zip(*board.neighbours(), strict=True))
        both_known = (points[:, a, 3] > 0) & (points[:, b, 3] > 0)
        sides = np.linalg.norm(points[:, a, :3] - points[:, b, :3], axis=-1)[both_known]
        if not len(sides):
            return None
        ratio = float(np.median(sides)) / board.square
        return Scale("the board", ratio, abs(ratio - 1) > SQUARE_OFF)
    length = body_length(points) if target == "people" else None
    return None if length is None else Scale("a person", length / USUAL_BODY, not BODY[0] < length < BODY[1])
