"""Detect 33 landmarks of the main person of each view, with the same detector that cuts clips."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from opendimo.pipelines.rigs.views import Array, RigView, images

if TYPE_CHECKING:
    from opendimo.pipelines.people.detector import Detector, Person

LANDMARKS = 33
LIKE_THE_MAIN = 0.6
"""A second person taller than this share of the tallest one may be the main person of another view."""
SOME = 0.5
"""The identity of the main person is ambiguous if this share of the detections has such a second person."""


def see_people(view: RigView, frames: NDArray[np.int64], detector: "Detector") -> tuple[Array, bool]:
    """Detect the main person's landmarks [B, L, 33, 3] (x, y, confidence) at `frames` [B, L] of the video.

    Also returns whether it is unambiguous who the main person is.
    """
    points = np.zeros((*frames.shape, LANDMARKS, 3))
    detections, ambiguous = 0, 0
    person: Person | None = None
    for b, k, image in images(view, frames):
        person = detector.again(image, person) if person is not None and k else None
        if person is None:
            people = sorted(detector.glance(image), key=_height)
            person = people[-1] if people else None
            detections += 1
            ambiguous += len(people) > 1 and _height(people[-2]) > LIKE_THE_MAIN * _height(people[-1])
        if person is not None:
            points[b, k] = person.body.landmarks
    return points, ambiguous < SOME * max(detections, 1)


def _height(person: "Person") -> float:
    return float(person.box[3] - person.box[1])
