"""Lay out camera terms over the frames of a clip, in lanes so that they do not overlap."""

from dataclasses import dataclass
from typing import Any

FAMILIES = {
    "turn": ("pan_left", "pan_right", "tilt_up", "tilt_down", "roll_cw", "roll_ccw"),
    "travel": (
        "dolly_in", "dolly_out", "truck_left", "truck_right", "pedestal_up", "pedestal_down", "arc_left", "arc_right",
        "follow",
    ),
    "zoom": ("zoom_in", "zoom_out"),
    "shake": ("shake",),
}  # fmt: skip
"""Family of camera terms with the same colour -> its terms; all other terms belong to the family `static`."""


@dataclass(frozen=True)
class Span:
    """A camera term; `left` and `width` are in percent of the clip."""

    term: str
    family: str
    speed: str
    start_frame: int
    end_frame: int
    left: float
    width: float


def lanes(terms: list[dict[str, Any]], frames: int) -> list[list[Span]]:
    """Return the spans in order of their start, each in the first free lane."""
    filled: list[list[Span]] = []
    for term in sorted(terms, key=lambda t: (t["start_frame"], t["end_frame"], t["term"])):
        start, end = max(0, term["start_frame"]), min(frames, term["end_frame"])
        span = Span(
            term["term"].replace("_", " "),
            next((name for name, members in FAMILIES.items() if term["term"] in members), "static"),
            term["speed"],
            start,
            end,
            round(100 * start / frames, 2),
            round(100 * max(0, end - start) / frames, 2),
        )
        free_lane = next((lane for lane in filled if lane[-1].end_frame <= start), None)
        if free_lane is None:
            filled.append([span])
        else:
            free_lane.append(span)
    return filled
