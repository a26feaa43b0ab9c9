"""Forward kinematics of the 52 joints and their markers, one tree level at a time, fast enough for fitting.

Computes the same joints as `Body.joints`, but no vertices, and also returns the rotations.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from opendimo.model.body.skeleton import JOINTS, PARENTS
from opendimo.pipelines.poses.mapping import INDEX, MARKERS, TIPS

TIP_SHARE = 0.85
"""Length of a finger's last bone over the previous bone."""


def _levels() -> list[list[int]]:
    """Return the joints by their depth in the tree, without the root."""
    depth = [0] * len(JOINTS)
    for joint in range(1, len(JOINTS)):
        depth[joint] = depth[PARENTS[joint]] + 1
    return [[j for j, d in enumerate(depth) if d == level] for level in range(1, max(depth) + 1)]


LEVELS = _levels()
ORDER = [0, *(j for level in LEVELS for j in level)]
BACK = torch.tensor(np.argsort(ORDER))
MARKER_JOINT = torch.tensor([INDEX[joint] for joint, _ in MARKERS.values()] + [INDEX[tip[:-4] + "3"] for tip in TIPS])


def _below() -> Tensor:
    """Return [52, P]: 1 if the point moves when the joint rotates."""
    owner = [*range(len(JOINTS)), *MARKER_JOINT.tolist()]
    below = torch.zeros(len(JOINTS), len(owner))
    for point, joint in enumerate(owner):
        ancestor = joint
        while ancestor >= 0:
            below[ancestor, point] = 1
            ancestor = PARENTS[ancestor]
    return below


BELOW = _below()


def marker_offsets(rest: Tensor) -> Tensor:
    """Return the offsets [M, 3] of the markers from their joints in the rest pose `rest` [52, 3], metres."""
    fixed = torch.tensor([offset for _, offset in MARKERS.values()], dtype=rest.dtype, device=rest.device)
    last = torch.stack([rest[INDEX[tip[:-4] + "3"]] - rest[INDEX[tip[:-4] + "2"]] for tip in TIPS])
    return torch.cat([fixed, TIP_SHARE * last])


@dataclass(frozen=True)
class Posed:
    """A posed skeleton: joints [T, 52, 3], their rotations from body to fit frame [T, 52, 3, 3], and the `offsets`
    [M, 3] of the markers."""

    joints: Tensor
    rotations: Tensor
    offsets: Tensor

    @cached_property
    def points(self) -> Tensor:
        """Joints and markers, [T, P, 3]."""
        rotated_offsets = self.rotations[:, MARKER_JOINT] @ self.offsets[:, :, None]  # [T, M, 3, 1]
        return torch.cat([self.joints, self.joints[:, MARKER_JOINT] + rotated_offsets[..., 0]], 1)


def forward(rest: Tensor, local: Tensor, pelvis: Tensor) -> Posed:
    """Pose the skeleton with rest joints `rest` [52, 3].

    `local` rotations [T, 52, 3, 3]: parent from joint, for the root: fit frame from body. `pelvis` [T, 3]: position of
    the root joint.
    """
    rotation, position = local[:, :1], pelvis[:, None]
    rotations, positions = [rotation], [position]
    previous_level = [0]
    for level in LEVELS:
        slots = torch.tensor([previous_level.index(PARENTS[j]) for j in level])
        bones = rest[level] - rest[[PARENTS[j] for j in level]]  # [n, 3]
        parents = rotation[:, slots]
        position = position[:, slots] + (parents @ bones[:, :, None])[..., 0]
        rotation = parents @ local[:, level]
        rotations.append(rotation)
        positions.append(position)
        previous_level = level
    joints = torch.cat(positions, 1)[:, BACK]
    return Posed(joints, torch.cat(rotations, 1)[:, BACK], marker_offsets(rest))
