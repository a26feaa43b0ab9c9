"""A capsule body around the 52 joints: one capsule for every bone, and one for the skull."""

import torch
from torch import Tensor

from opendimo.model.body.skeleton import BONES, JOINTS
from opendimo.model.drawing.capsules import Capsules

_HEAD, _NECK = JOINTS.index("head"), JOINTS.index("neck")
SKULL = 0.11
"""Distance in metres from the head joint to the centre of the skull's upper ball, along the neck."""
LIMBS = (*BONES, (_HEAD, _HEAD))
"""The 52 capsules: pairs (parent, child) of joints; the last one is the skull."""

_THICK = {
    "spine1": 0.12, "spine2": 0.12, "spine3": 0.12, "neck": 0.06, "head": 0.06, "hip": 0.10, "knee": 0.075,
    "ankle": 0.05, "foot": 0.04, "collar": 0.07, "shoulder": 0.06, "elbow": 0.045, "wrist": 0.035,
}  # fmt: skip
"""Radius in metres of the bone that ends in a joint, for an adult."""
_SKULL_RADIUS, _FINGER_RADIUS = 0.09, 0.01


def body_capsules(joints: Tensor, pose_ok: Tensor, hands_pose_ok: Tensor) -> Capsules:
    """Build capsules from joints [F, 52, 3] in camera coordinates, metres.

    `pose_ok` [F] and `hands_pose_ok` [F, 2]: whether the labels of body and hands may be used.
    """
    parents, children = torch.tensor(LIMBS, device=joints.device).T
    start, end = joints[:, parents], joints[:, children]  # [F, 52, 3]
    up = torch.nn.functional.normalize(joints[:, _HEAD] - joints[:, _NECK], dim=-1)
    end = torch.cat([end[:, :-1], (joints[:, _HEAD] + SKULL * up)[:, None]], dim=1)
    radii = torch.tensor(_RADII, device=joints.device).expand(len(joints), -1)  # [F, 52]
    return Capsules(start, end, radii, limbs_ok(pose_ok, hands_pose_ok))


def limbs_ok(pose_ok: Tensor, hands_pose_ok: Tensor) -> Tensor:
    """Return which limbs have both ends labelled: [...] and [..., 2] bool -> [..., 52] bool."""
    parts = torch.stack([pose_ok, *(pose_ok & hand for hand in hands_pose_ok.unbind(-1))], dim=-1)  # body, left, right
    return parts[..., torch.tensor(_PART, device=parts.device)]


def _radius(joint: str) -> float:
    part = joint.removeprefix("left_").removeprefix("right_")
    return _THICK.get(part, _FINGER_RADIUS)


def _part_of(joint: int) -> int:
    """Return 0 for the body, 1 for the left hand, 2 for the right hand."""
    return 0 if joint < 22 else 1 + (joint >= 37)


_RADII = [*(_radius(JOINTS[child]) for _, child in BONES), _SKULL_RADIUS]
_PART = [*(_part_of(child) for _, child in BONES), 0]
