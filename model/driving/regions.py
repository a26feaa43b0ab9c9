"""Regions of the picture around the labelled joints of a person: face, hands, the rest of the body, background."""

import torch
from torch import Tensor

from opendimo.model.batch import Driving
from opendimo.model.driving.crops import HAND_JOINTS
from opendimo.model.folding import by_latent_frame

SURE = 0.3
"""Confidence above which a joint is used, as in DWPose's drawings."""
NECK, HEAD = 12, 15
FACE_LENGTH = 2.0
"""Distance from the joint `head`, at the base of the skull, to the top of the head, in distances from neck to head."""
HAND_MARGIN, FACE_MARGIN, BODY_MARGIN = 0.25, 0.35, 0.1
"""Margin on each side of the box around the joints of a part, as a share of the box's longer side."""
REGIONS = ("face", "hands", "body", "background")


def around(points: Tensor, shown: Tensor, margin: float, height: int, width: int) -> Tensor:
    """Return which cells of an image, divided into height x width, lie in the box around points: [B, T, h, w] bool.

    `points` [B, T, n, 2]: x, y in the image, which spans [0, 1]. `shown` [B, T] bool: no cells where it is False.
    """
    x, y = (torch.arange(n, device=points.device) for n in (width, height))
    low, high = points.amin(2), points.amax(2)  # [B, T, 2]
    extra = margin * (high - low).amax(-1, keepdim=True)
    (left, top), (right, bottom) = ((p.unbind(-1)) for p in (low - extra, high + extra))
    across = (x + 1 > width * left[..., None]) & (x < width * right[..., None])  # [B, T, width]
    down = (y + 1 > height * top[..., None]) & (y < height * bottom[..., None])
    return (down[..., :, None] & across[..., None, :]) & shown[..., None, None]


def hand_regions(driving: Driving, height: int, width: int) -> Tensor:
    """Return which cells of an image lie around a confident hand, [B, T, height, width] bool."""
    regions = torch.zeros(*driving.pose_ok.shape, height, width, dtype=torch.bool, device=driving.joints_2d.device)
    for joints, labelled in zip(HAND_JOINTS, driving.hands_pose_ok.unbind(-1), strict=True):
        hand = driving.joints_2d[:, :, joints]  # [B, T, 16, 3]
        confident = driving.pose_ok & labelled & (hand[..., 2] > SURE).all(-1)
        regions |= around(hand[..., :2], confident, HAND_MARGIN, height, width)
    return regions


def latent_regions(driving: Driving, frames: int, height: int, width: int, stride: int) -> Tensor:
    """Return the cells of latents that lie in each of `REGIONS`, [4, B, frames, height, width] bool.

    A cell is of the first region that it touches in any of the `stride` video frames of its latent frame. Latent
    frames without a labelled pose are in no region.
    """
    joints = driving.joints_2d[..., :2]  # [B, T, 52, 2]
    neck, head = joints[:, :, NECK], joints[:, :, HEAD]
    face = torch.stack([head, head + FACE_LENGTH * (head - neck)], dim=2)
    parts = [
        around(face, driving.pose_ok, FACE_MARGIN, height, width),
        hand_regions(driving, height, width),
        around(torch.cat([joints, face], dim=2), driving.pose_ok, BODY_MARGIN, height, width),
    ]
    known = by_latent_frame(driving.pose_ok, frames, stride).any(2)[..., None, None]  # [B, L, 1, 1]
    free, regions = known.expand(-1, -1, height, width), []
    for part in parts:
        touched = by_latent_frame(part, frames, stride).any(2) & free  # [B, L, h, w]
        regions.append(touched)
        free = free & ~touched
    return torch.stack([*regions, free])
