"""Reject wrong hand detections: landmark models also detect hands where there are none, or the same hand twice."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from opendimo.pipelines.poses.landmarks import Landmarks
from opendimo.pipelines.poses.mapping import GROUP

Array = NDArray[np.floating]
BODY_WRISTS = (15, 16)
NEAR = 1.0
"""Maximum distance of a hand's wrist landmark from the body's wrist, in hand sizes."""
MET = 0.25
"""A hand label is valid if the median distance of its points to their landmarks is below this share of its size."""


def drop_strange_hands(landmarks: Landmarks) -> Landmarks:
    """Remove hands that start far from the body's wrist, and the farther one of two hands in the same place."""
    wrists = landmarks.body[:, BODY_WRISTS, :2]  # [T, 2, 2]
    starts = landmarks.hands[:, :, 0, :2]
    size = np.maximum(_size(landmarks.hands[..., :2]), 1e-6)  # [T, 2]
    distance = np.linalg.norm(starts - wrists, axis=-1) / size
    plausible = landmarks.hands_found & landmarks.body_found[:, None] & (distance < NEAR)
    apart = np.linalg.norm(landmarks.hands[:, 0, :, :2] - landmarks.hands[:, 1, :, :2], axis=-1).mean(-1)
    same = plausible.all(1) & (apart < MET * size.min(1))
    plausible[same, distance[same].argmax(1)] = False
    return replace(landmarks, hands_found=plausible)


def hands_met(fitted: Array, observed: Array) -> NDArray[np.bool_]:
    """Return whether each hand [T, 2] was detected and the fit matches it.

    `fitted` [T, P, 2], `observed` [T, P, 3], pixels.
    """
    met = np.zeros((len(fitted), 2), bool)
    for side in range(2):
        hand = side + 1 == GROUP
        detected = (observed[:, hand, 2] > 0).all(1)
        distance = np.median(np.linalg.norm(fitted[:, hand] - observed[:, hand, :2], axis=-1), axis=1)
        met[:, side] = detected & (distance < MET * _size(observed[:, hand, :2]))
    return met


def _size(points: Array) -> Array:
    """Return the longer side of the box around points [..., N, 2]."""
    return (points.max(-2) - points.min(-2)).max(-1)
