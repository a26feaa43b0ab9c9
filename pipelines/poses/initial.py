"""Compute an initial pose from bone directions, without iteration, good enough to be refined by the fit.

Root, head and wrists come from the best rotation of several directions (Kabsch), limbs and fingers from the shortest
rotation of each bone. Upper arms and thighs are also twisted so that elbows and knees bend as hinges.
"""

import numpy as np
from numpy.typing import NDArray

from opendimo.model.body.skeleton import JOINTS, PARENTS
from opendimo.pipelines.poses.mapping import INDEX, SIDES

Array = NDArray[np.floating]

FORWARD = np.array([0.0, 0.0, 1.0])
RIGID = {
    "pelvis": ("left_hip", "right_hip", "left_shoulder", "right_shoulder", "neck"),
    "head": ("left_ear", "right_ear", "left_eye", "right_eye", "nose"),
    **{f"{s}_wrist": tuple(f"{s}_{p}" for p in ("palm", "index1", "middle1", "ring1", "pinky1")) for s in SIDES},
}
"""Joint -> the points that determine its rotation."""
HINGED = {
    **{f"{s}_shoulder": (f"{s}_elbow", f"{s}_wrist", FORWARD) for s in SIDES},
    **{f"{s}_hip": (f"{s}_knee", f"{s}_ankle", -FORWARD) for s in SIDES},
}
"""Joint -> (end of its bone, end of the next bone, direction in which the next bone bends in the rest pose)."""
POINTING = {
    **{f"{s}_{joint}": f"{s}_{end}" for s in SIDES for joint, end in (("elbow", "wrist"), ("knee", "ankle"))},
    **{f"{s}_ankle": f"{s}_foot" for s in SIDES},
    **{
        f"{s}_{finger}{k}": f"{s}_{finger}{k + 1}" if k < 3 else f"{s}_{finger}_tip"
        for s in SIDES
        for finger in ("index", "middle", "pinky", "ring", "thumb")
        for k in (1, 2, 3)
    },
}
"""Joint -> the point at the end of its bone."""
STRAIGHT = 0.15
"""Sine of the bend below which a hinge hardly determines the twist."""


def first_guess(rest: Array, aim: Array, known: NDArray[np.bool_]) -> Array:
    """Return local rotations [T, 52, 3, 3] that turn the rest points `rest` [P, 3] towards `aim` [T, P, 3].

    Only directions within a group are used (see `mapping.GROUP`). `known` [P]: points that were ever observed; a joint
    that cannot be determined from them keeps its parent's rotation.
    """
    rotations: list[Array] = []
    for joint, name in enumerate(JOINTS):
        parent = rotations[PARENTS[joint]] if joint else np.broadcast_to(np.eye(3), (len(aim), 3, 3))
        rotations.append(_rotation(name, parent, rest, aim, known))
    world = np.stack(rotations, 1)  # [T, 52, 3, 3]
    local = world.copy()
    local[:, 1:] = np.swapaxes(world[:, list(PARENTS[1:])], -1, -2) @ world[:, 1:]
    return local


def _rotation(name: str, parent: Array, rest: Array, aim: Array, known: NDArray[np.bool_]) -> Array:
    """Return the rotation [T, 3, 3] of a joint from the body's rest frame, given the rotation of its parent."""
    start = INDEX[name]
    if name in RIGID:
        points = [INDEX[p] for p in RIGID[name]]
        points = [p for p in points if known[p]]
        return kabsch(rest[points], aim[:, points]) if len(points) >= 3 else parent
    if name in POINTING:
        end = INDEX[POINTING[name]]
        return (
            swing(parent, rest[end] - rest[start], aim[:, end] - aim[:, start])
            if known[start] and known[end]
            else parent
        )
    if name in HINGED:
        end, after = INDEX[HINGED[name][0]], INDEX[HINGED[name][1]]
        if not (known[start] and known[end] and known[after]):
            return parent
        swung = swing(parent, rest[end] - rest[start], aim[:, end] - aim[:, start])
        return twist(swung, rest[end] - rest[start], HINGED[name][2], aim[:, after] - aim[:, end])
    return parent


def kabsch(source: Array, target: Array) -> Array:
    """Return the rotations [T, 3, 3] that best align `source` [N, 3] with `target` [T, N, 3], about their means."""
    covariance = np.einsum("tni,nj->tij", target - target.mean(1, keepdims=True), source - source.mean(0))
    u, _, vt = np.linalg.svd(covariance)
    u[..., -1] *= np.linalg.det(u @ vt)[:, None]
    return u @ vt


def swing(parent: Array, bone: Array, direction: Array) -> Array:
    """Rotate `parent` [T, 3, 3] by the smallest angle so that `bone` [3] points along `direction` [T, 3]."""
    return shortest_turn(parent @ bone, direction) @ parent


def shortest_turn(source: Array, target: Array) -> Array:
    """Return the smallest rotations [T, 3, 3] that turn the direction `source` ([3] or [T, 3]) to `target` [T, 3]."""
    a, b = unit(np.broadcast_to(source, target.shape)), unit(target)
    axis, cosine = np.cross(a, b), (a * b).sum(-1)
    skew = np.zeros((len(a), 3, 3))
    skew[:, 0, 1], skew[:, 0, 2], skew[:, 1, 2] = -axis[:, 2], axis[:, 1], -axis[:, 0]
    skew -= np.swapaxes(skew, -1, -2)
    # Rodrigues with sin^2 / (1 - cos) = 1 + cos; the clamp avoids a division by zero for opposite directions
    u, _, vt = np.linalg.svd(np.eye(3) + skew + skew @ skew / np.maximum(1 + cosine, 1e-2)[:, None, None])
    turn: Array = u @ vt
    return turn


def twist(swung: Array, bone: Array, bend: Array, after: Array) -> Array:
    """Rotate `swung` [T, 3, 3] about its bone so that `bend` [3] points along the next bone `after` [T, 3]."""
    along = unit(swung @ bone)
    current = across(swung @ bend, along)
    target = across(unit(after), along) + STRAIGHT * unit(current)
    frames = [np.stack([along, v, np.cross(along, v)], -1) for v in (unit(current), unit(across(target, along)))]
    return frames[1] @ np.swapaxes(frames[0], -1, -2) @ swung


def across(v: Array, along: Array) -> Array:
    return v - (v * along).sum(-1, keepdims=True) * along


def unit(v: Array) -> Array:
    return v / np.maximum(np.linalg.norm(v, axis=-1, keepdims=True), 1e-9)
