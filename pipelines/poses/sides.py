"""Decide which landmarks are left and which are right, over a whole clip.

A landmark model that sees one frame at a time exchanges the legs of a walker seen from the side, or the whole body when
the person turns. Over time the wrong assignment moves points far in one frame, and back later. So the assignments of
upper and lower body are chosen together as the path of least cost (Viterbi): how far all points move between frames, in
the picture and in space. Exchanging costs a little in each frame, so that the majority of the frames decides.
"""

from dataclasses import replace
from itertools import product

import numpy as np
from numpy.typing import NDArray

from opendimo.pipelines.poses.landmarks import Landmarks

Array = NDArray[np.floating]
UPPER = [(k, k + 1) for k in range(11, 23, 2)]
LOWER = [(k, k + 1) for k in range(23, 33, 2)]
"""Pairs (left, right) of MediaPipe's body landmarks: shoulders to fingers, hips to toes."""
STATES = list(product((False, True), repeat=2))
"""Whether the upper and the lower body are exchanged."""
EXCHANGED = 0.01
"""Cost per frame of an exchanged half, in shares of the person's size that points move."""
IN_SPACE = 0.5
"""Weight of a metre in space against the person's size in the picture: depth is estimated, and less certain."""


def settle_sides(landmarks: Landmarks) -> Landmarks:
    """Return the landmarks with left and right exchanged where that makes the clip consistent; hands stay."""
    frames = np.flatnonzero(landmarks.body_found)
    if len(frames) < 2:
        return landmarks
    points = np.concatenate([_pictured(landmarks.body[frames]), landmarks.world[frames]], -1)  # [F, 33, 5]
    variants = np.stack([_exchanged(points, *state) for state in STATES])  # [S, F, 33, 5]
    alone = np.repeat([[EXCHANGED * sum(state)] for state in STATES], len(frames), axis=1)  # [S, F]
    moves = np.stack([[_moves(a, b) for b in variants] for a in variants])  # [S, S, F - 1]
    chosen = _least_path(alone, moves)
    body, world = landmarks.body.copy(), landmarks.world.copy()
    for frame, state in zip(frames, chosen, strict=True):
        for values in (body, world):
            values[frame] = _exchanged(values[frame], *STATES[state])
    return replace(landmarks, body=body, world=world)


def _pictured(body: Array) -> Array:
    """Return the picture coordinates [F, 33, 2] of landmarks [F, 33, 4], in units of the person's median size."""
    size = np.median((body[..., :2].max(1) - body[..., :2].min(1)).max(-1))
    return np.asarray(body[..., :2] / max(float(size), 1e-6))


def _exchanged(points: Array, upper: bool, lower: bool) -> Array:
    """Return points [..., 33, n] with left and right exchanged in the upper or the lower body."""
    order = np.arange(points.shape[-2])
    for left, right in (UPPER if upper else []) + (LOWER if lower else []):
        order[[left, right]] = right, left
    return points[..., order, :]


def _moves(before: Array, after: Array) -> Array:
    """Return the mean distance [F - 1] that body landmarks [F, 33, 5] move from each frame to the next."""
    way = after[1:, 11:] - before[:-1, 11:]
    pictured, in_space = (np.linalg.norm(part, axis=-1).mean(-1) for part in (way[..., :2], way[..., 2:]))
    return np.asarray(pictured + IN_SPACE * in_space)


def _least_path(alone: Array, moves: Array) -> NDArray[np.int64]:
    """Return the states [F] of least total cost: `alone` [S, F], and `moves` [S, S, F - 1] from one to the next."""
    total, back = alone[:, 0], []
    for k in range(alone.shape[1] - 1):
        ways = total[:, None] + moves[:, :, k]
        back.append(ways.argmin(0))
        total = ways.min(0) + alone[:, k + 1]
    path = [int(total.argmin())]
    for best in reversed(back):
        path.append(int(best[path[-1]]))
    return np.array(path[::-1])
