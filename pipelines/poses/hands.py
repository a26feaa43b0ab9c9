"""Which hands to believe: landmark models also find hands where there are none, or the same hand twice."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from opendimo.pipelines.poses.landmarks import Landmarks
from opendimo.pipelines.poses.mapping import GROUP

Array = NDArray[np.floating]
BODY_WRISTS = (15, 16)
NEAR = 1.0
"""A hand begins no farther from the body's wrist than so many times its own size."""
MET = 0.25
"""A hand label may be used where the median joint is within this share of the hand's size of its landmark."""


def drop_strange_hands(landmarks: Landmarks) -> Landmarks:
    """Landmarks without hands that begin far from the body's wrist, and without the farther one of two in one place."""
    wrists = landmarks.body[:, BODY_WRISTS, :2]  # [T, 2, 2]
    starts = landmarks.hands[:, :, 0, :2]
    size = np.maximum(_size(landmarks.hands[..., :2]), 1e-6)  # [T, 2]
    off = np.linalg.norm(starts - wrists, axis=-1) / size
    found = landmarks.hands_found & landmarks.body_found[:, None] & (off < NEAR)
    apart = np.linalg.norm(landmarks.hands[:, 0, :, :2] - landmarks.hands[:, 1, :, :2], axis=-1).mean(-1)
    same = found.all(1) & (apart < MET * size.min(1))
    found[same, off[same].argmax(1)] = False
    return replace(landmarks, hands_found=found)


def hands_met(fitted: Array, observed: Array) -> NDArray[np.bool_]:
    """Whether each hand [T, 2] was found and the fit meets it. `fitted` [T, P, 2], `observed` [T, P, 3], pixels."""
    met = np.zeros((len(fitted), 2), bool)
    for side in range(2):
        hand = side + 1 == GROUP
        seen = (observed[:, hand, 2] > 0).all(1)
        off = np.median(np.linalg.norm(fitted[:, hand] - observed[:, hand, :2], axis=-1), axis=1)
        met[:, side] = seen & (off < MET * _size(observed[:, hand, :2]))
    return met


def _size(points: Array) -> Array:
    """The longer side of the box around points [..., N, 2]."""
    return (points.max(-2) - points.min(-2)).max(-1)
