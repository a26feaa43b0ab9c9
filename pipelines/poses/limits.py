"""Pose prior: typical rotation and hard limits of each joint."""

import torch
from torch import Tensor

from opendimo.model.body.skeleton import JOINTS

USUAL = {
    "hip": 1.0, "knee": 1.2, "ankle": 0.5, "foot": 0.15, "spine": 0.3, "neck": 0.4, "head": 0.4, "collar": 0.2,
    "shoulder": 1.2, "elbow": 1.2, "wrist": 0.6, "thumb": 0.5, "index": 0.8, "middle": 0.8, "ring": 0.8, "pinky": 0.8,
}  # fmt: skip
"""Standard deviation of a joint's angle, radians."""
LEFT_LIMITS = {
    "knee": ((-0.05, 2.6), (-0.3, 0.3), (-0.2, 0.2)),
    "elbow": ((-1.5, 1.5), (-2.6, 0.1), (-0.25, 0.25)),
    "wrist": ((-1.0, 1.0), (-0.7, 0.7), (-1.4, 1.4)),
    "ankle": ((-0.9, 0.7), (-0.6, 0.6), (-0.5, 0.5)),
    "spine1": ((-0.4, 0.9), (-0.5, 0.5), (-0.4, 0.4)),
    "index": ((-0.3, 0.3), (-0.3, 0.3), (-1.7, 0.3)),
    "middle": ((-0.3, 0.3), (-0.3, 0.3), (-1.7, 0.3)),
    "ring": ((-0.3, 0.3), (-0.3, 0.3), (-1.7, 0.3)),
    "pinky": ((-0.3, 0.3), (-0.4, 0.4), (-1.7, 0.3)),
}
"""Joint -> (minimum, maximum) of the x, y, z of its axis-angle on the left side, radians. The right side is the mirror
image: y and z change sign. Palms face down in the rest pose, so fingers bend about z."""
WIDE = 4.0


def _side_and_kind(name: str) -> tuple[str, str]:
    side, _, rest = name.partition("_")
    return (side, rest) if rest else ("left", name)


def usual() -> Tensor:
    """Return the standard deviations [51, 1] of joints 1..51, radians."""
    kinds = [_side_and_kind(name)[1].rstrip("123") for name in JOINTS[1:]]
    return torch.tensor([USUAL[kind] for kind in kinds])[:, None]


def limits() -> tuple[Tensor, Tensor]:
    """Return the minimum and maximum axis-angle components [51, 3] of joints 1..51, radians."""
    least, most = torch.full((len(JOINTS) - 1, 3), -WIDE), torch.full((len(JOINTS) - 1, 3), WIDE)
    for i, name in enumerate(JOINTS[1:]):
        side, kind = _side_and_kind(name)
        if (bounds := LEFT_LIMITS.get(kind) or LEFT_LIMITS.get(kind.rstrip("123"))) is None:
            continue
        for axis, (low, high) in enumerate(bounds):
            mirrored = side == "right" and axis > 0
            least[i, axis], most[i, axis] = (-high, -low) if mirrored else (low, high)
    return least, most
