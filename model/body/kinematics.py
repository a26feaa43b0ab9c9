"""Forward kinematics of joint trees, and the mean template that poses are compared on."""

from collections.abc import Sequence

import torch
from torch import Tensor

from opendimo.model.body import mannequin_parts
from opendimo.model.body.skeleton import SMPLX_JOINTS

TEMPLATE = torch.tensor([mannequin_parts.JOINTS[name] for name in SMPLX_JOINTS])
"""The mannequin's rest joints [55, 3] in metres, in the order of `SMPLX_JOINTS`."""


def forward_kinematics(rotations: Tensor, rest: Tensor, parents: Sequence[int]) -> Tensor:
    """Return joint positions [..., J, 3]; differentiable. The first joint keeps its rest position.

    `rotations` [..., J, 3, 3] of each joint relative to its parent, `rest` [..., J, 3] rest positions, `parents` [J]
    with -1 for the first joint; parents come before children.
    """
    offsets = torch.stack([rest[..., j, :] - rest[..., p, :] for j, p in enumerate(parents)], dim=-2)[..., None]
    local = rotations.unbind(-3)
    world, positions = [local[0]], [rest[..., 0, :].expand(local[0].shape[:-1])]
    for joint, parent in enumerate(parents[1:], start=1):
        positions.append(positions[parent] + (world[parent] @ offsets[..., joint, :, :])[..., 0])
        world.append(world[parent] @ local[joint])
    return torch.stack(positions, dim=-2)
