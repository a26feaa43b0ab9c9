"""The main person of each view as points: 33 landmarks a frame, by the detector that cuts clips."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from opendimo.pipelines.rigs.views import Array, RigView, images

if TYPE_CHECKING:
    from opendimo.pipelines.people.detector import Detector, Person

LANDMARKS = 33
LIKE_THE_MAIN = 0.6
"""Somebody this tall beside the tallest, as a share of them, may be the main person of another view."""
SOME = 0.5
"""Share of looks with such a person from which on nobody knows who is who."""


def see_people(view: RigView, frames: NDArray[np.int64], detector: "Detector") -> tuple[Array, bool]:
    """Points [B, L, 33, 3] (x, y, confidence) in the video at `frames` [B, L], and whether it is clear who is meant."""
    points = np.zeros((*frames.shape, LANDMARKS, 3))
    looks, unclear = 0, 0
    person: Person | None = None
    for b, k, image in images(view, frames):
        person = detector.again(image, person) if person is not None and k else None
        if person is None:
            people = sorted(detector.glance(image), key=_height)
            person = people[-1] if people else None
            looks += 1
            unclear += len(people) > 1 and _height(people[-2]) > LIKE_THE_MAIN * _height(people[-1])
        if person is not None:
            points[b, k] = person.body.landmarks
    return points, unclear < SOME * max(looks, 1)


def _height(person: "Person") -> float:
    return float(person.box[3] - person.box[1])
