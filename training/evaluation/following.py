"""Compare the pose of the person in a clip with the ground truth, and its camera moves with the prompt."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from opendimo.storage_schemas.camera_wording import asked_terms
from opendimo.storage_schemas.conventions import holds_in

Array = NDArray[np.floating]
BODY = 22
"""Number of body joints, which precede the hand joints."""
SEEN_AS = {
    "truck_left": "pan_left", "truck_right": "pan_right", "pedestal_up": "tilt_up", "pedestal_down": "tilt_down",
    "dolly_in": "zoom_in", "dolly_out": "zoom_out",
}  # fmt: skip
"""Camera moves that look like a rotation or a zoom before a flat or far background: moves are compared as these."""
UNSEEN = ("arc_left", "arc_right", "follow")
"""Moves that cannot be recognised from video alone: near and far objects move in opposite directions, or the person
stays in place."""


class Following(NamedTuple):
    """Pose error of a clip.

    `error`: mean joint distance divided by the person's height, None if no landmarks were found. `found`: number of
    labelled frames with landmarks. `labelled`: number of labelled frames.
    """

    error: float | None
    found: int
    labelled: int


def pose_following(
    landmarks: Array, truth: Array, valid: NDArray[np.bool_], height: float, size: tuple[int, int]
) -> Following:
    """Compare landmarks [T, J, 3] found in a clip with true joints [T, J, 3] (x, y, confidence; pixels of the clip).

    `valid` [T]: labelled frames. `height`: of the person in pixels. `size`: (width, height) of the frames. Joints
    outside the frame and joints that were not found are excluded.
    """
    x, y = truth[..., 0], truth[..., 1]
    inside = (x >= 0) & (x <= size[0]) & (y >= 0) & (y <= size[1]) & np.isfinite(truth).all(axis=-1)
    labelled = inside & valid[:, None] & (truth[..., 2] > 0)  # [T, J]
    both = labelled & (landmarks[..., 2] > 0)
    distance = np.linalg.norm(landmarks[..., :2] - truth[..., :2], axis=-1)[both]
    error = float(distance.mean() / height) if len(distance) and height > 0 else None
    return Following(error, int(both.any(axis=1).sum()), int(labelled.any(axis=1).sum()))


def held_terms(terms: Iterable[tuple[str, int, int]], start: int, stop: int) -> set[str]:
    """Return the camera terms that hold in clip frames [start, stop).

    `terms`: (term, first frame, one past the last). Empty if `terms` is; {"static"} if none of `terms` holds.
    """
    terms = list(terms)
    held = {term for term, first, end in terms if holds_in(first, end, start, stop)}
    return held or ({"static"} if terms else set())


def asked_moves(prompt: str) -> list[str]:
    """Return the camera moves that a prompt asks for, as they can be recognised in a video.

    Empty if it asks for none, or for one in `UNSEEN`.
    """
    asked = asked_terms(prompt)
    return [] if asked & set(UNSEEN) else sorted({SEEN_AS.get(term, term) for term in asked})
