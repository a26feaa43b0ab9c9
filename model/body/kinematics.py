"""Forward kinematics of trees of joints, and the mean template that poses are compared on."""

from collections.abc import Sequence

import torch
from torch import Tensor

from opendimo.model.body import mannequin_parts
from opendimo.model.body.skeleton import SMPLX_JOINTS

TEMPLATE = torch.tensor([mannequin_parts.JOINTS[name] for name in SMPLX_JOINTS])
"""[55, 3] the mannequin's joints at rest, metres, in the order of `SMPLX_JOINTS`."""


def forward_kinematics(rotations: Tensor, rest: Tensor, parents: Sequence[int]) -> Tensor:
    """Places of joints, the first of which stays where it rests; differentiable.

    `rotations` [..., J, 3, 3] of each joint against its parent, `rest` [..., J, 3] places at rest, `parents` [J] with
    -1 for the first; parents come before children. Returns [..., J, 3].
    """
    offsets = torch.stack([rest[..., j, :] - rest[..., p, :] for j, p in enumerate(parents)], dim=-2)[..., None]
    local = rotations.unbind(-3)
    turned, placed = [local[0]], [rest[..., 0, :].expand(local[0].shape[:-1])]
    for joint, parent in enumerate(parents[1:], start=1):
        placed.append(placed[parent] + (turned[parent] @ offsets[..., joint, :, :])[..., 0])
        turned.append(turned[parent] @ local[joint])
    return torch.stack(placed, dim=-2)
