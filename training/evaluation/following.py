"""Whether the person in a clip stands as the truth does, and whether the camera does what the prompt says."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from opendimo.storage_schemas.conventions import holds_in

Array = NDArray[np.floating]
BODY = 22
"""Joints of the body, which come first."""
SEEN_AS = {
    "truck_left": "pan_left", "truck_right": "pan_right", "pedestal_up": "tilt_up", "pedestal_down": "tilt_down",
    "dolly_in": "zoom_in", "dolly_out": "zoom_out",
}  # fmt: skip
"""Camera moves that a picture alone cannot tell from a turn or a zoom."""
UNSEEN = ("arc_left", "arc_right", "follow")
"""Moves of which a picture alone tells nothing: near and far things go opposite ways, or the person stays."""


class Following(NamedTuple):
    """`error`: mean distance of joints over the person's height, None where no frame has landmarks. Frames that have
    landmarks, of those that are labelled."""

    error: float | None
    found: int
    labelled: int


def pose_following(
    landmarks: Array, truth: Array, valid: NDArray[np.bool_], height: float, size: tuple[int, int]
) -> Following:
    """Landmarks [T, J, 3] found in a clip against true joints [T, J, 3] (x, y, confidence; pixels of the clip).

    `valid` [T]: labelled frames; `height` of the person in pixels; `size` (width, height) of the frames: joints outside
    do not count, nor do those that are not found.
    """
    x, y = truth[..., 0], truth[..., 1]
    inside = (x >= 0) & (x <= size[0]) & (y >= 0) & (y <= size[1]) & np.isfinite(truth).all(axis=-1)
    wanted = inside & valid[:, None] & (truth[..., 2] > 0)  # [T, J]
    both = wanted & (landmarks[..., 2] > 0)
    distance = np.linalg.norm(landmarks[..., :2] - truth[..., :2], axis=-1)[both]
    error = float(distance.mean() / height) if len(distance) and height > 0 else None
    return Following(error, int(both.any(axis=1).sum()), int(wanted.any(axis=1).sum()))


def held_terms(terms: Iterable[tuple[str, int, int]], start: int, stop: int) -> set[str]:
    """Camera terms that hold in clip frames [start, stop); where some are known and none of them holds, it is static.

    `terms`: (term, first frame, one past the last).
    """
    terms = list(terms)
    held = {term for term, first, end in terms if holds_in(first, end, start, stop)}
    return held or ({"static"} if terms else set())


def asked_moves(terms: Iterable[tuple[str, int, int]], start: int, stop: int) -> list[str]:
    """The terms that hold in clip frames [start, stop) as a picture alone can show them.

    Empty where they are not known, and where one of them cannot be seen in a picture.
    """
    held = held_terms(terms, start, stop)
    return [] if held & set(UNSEEN) else sorted({SEEN_AS.get(term, term) for term in held})
