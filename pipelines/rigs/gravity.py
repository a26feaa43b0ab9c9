"""Estimate the direction of gravity and the size of the body from triangulated landmarks of a person."""

import numpy as np
from numpy.typing import NDArray

from opendimo.pipelines.rigs.views import Array

SHOULDERS, HIPS, KNEES, ANKLES = (11, 12), (23, 24), (25, 26), (27, 28)  # MediaPipe's landmarks
STRAIGHT = 15.0
"""A person stands upright if trunk, thighs and shanks are aligned within this angle, degrees."""
LEAST_FRAMES = 10
BODY = (0.5, 2.0)
"""Plausible distance from shoulders to ankles, from small children to tall men, metres."""


def gravity(points: Array) -> tuple[Array, float] | None:
    """Estimate the unit vector of gravity [3], and the median deviation from it in degrees.

    `points` [F, 33, 4]: landmarks of a person (x, y, z in the world, confidence). Returns None if the person stands
    upright in fewer than `LEAST_FRAMES` frames.
    """
    middle, known = _middles(points)
    trunk, thigh, shank = (_unit(middle[i] - middle[i + 1]) for i in range(3))
    upright = known & (_angle(trunk, thigh) < STRAIGHT) & (_angle(thigh, shank) < STRAIGHT)
    if upright.sum() < LEAST_FRAMES:
        return None
    up = _unit(middle[0] - middle[3])[upright]
    mean = _unit(np.median(up, 0))
    return -mean, float(np.median(_angle(up, mean)))


def body_length(points: Array) -> float | None:
    """Return the median length of a person [F, 33, 4] from shoulders to ankles, along the body, in world units.

    None if fewer than `LEAST_FRAMES` frames show all these joints.
    """
    middle, known = _middles(points)
    if known.sum() < LEAST_FRAMES:
        return None
    length = sum(np.linalg.norm(middle[i] - middle[i + 1], axis=1) for i in range(3))
    return float(np.median(np.asarray(length)[known]))


def _middles(points: Array) -> tuple[Array, NDArray[np.bool_]]:
    """Return the midpoints of shoulders, hips, knees, ankles [4, F, 3], and a mask [F] of frames with all of them."""
    pairs = (SHOULDERS, HIPS, KNEES, ANKLES)
    middle = np.stack([points[:, list(pair), :3].mean(1) for pair in pairs])
    known = np.stack([(points[:, list(pair), 3] > 0).all(1) for pair in pairs]).all(0)
    return middle, np.asarray(known, np.bool_)


def _unit(vectors: Array) -> Array:
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-9))


def _angle(a: Array, b: Array) -> Array:
    return np.degrees(np.arccos(np.clip((a * b).sum(-1), -1, 1)))
