"""MimicMotion (Zhang et al. 2024): AnimateAnyone's skeleton with confidence, and a loss weighted around hands.

As published: colours are multiplied by the confidences of a bone's joints; the loss is weighted by ten around hands
whose joints are all confident. Simplified: everything that `pose2d` simplifies; weights are divided by their mean, so
that learning rates are comparable between controls; weights are 1 if target and driver are different views, because
hands are elsewhere there (MimicMotion has one view only); the pipeline's overlapping windows replace progressive
latent fusion.
"""

import torch
from diffusers.models.modeling_utils import ModelMixin  # noqa: F401  # pipelines look it up in this module
from torch import Tensor

from opendimo.model.batch import Driving
from opendimo.model.controls.pose2d import SURE, Pose2DControl, bone_confidence
from opendimo.model.driving.crops import HAND_JOINTS
from opendimo.model.folding import by_latent_frame
from opendimo.model.signal import Grid, Signal

AMPLIFIED = 10.0
MARGIN = 0.25
"""Margin on each side of the box around a hand's joints, as a share of the box's longer side."""


class MimicMotionControl(Pose2DControl):
    """`pose2d` with bones drawn by confidence, and a map of loss weights."""

    def strength(self, driving: Driving) -> Tensor:
        """Return the bones' confidences as their brightness, [B, T, 51]."""
        return bone_confidence(driving)

    def forward(self, driving: Driving, present: Tensor, grid: Grid) -> Signal:
        """Return one addition and the loss weights, which are 1 for samples without motion."""
        hands = hand_regions(driving, grid.height, grid.width)  # [B, T, h, w]
        hands = by_latent_frame(hands, grid.frames, self.config["stride"]).any(2)  # [B, L, h, w]
        weight = torch.where(hands & present[:, None, None, None], AMPLIFIED, 1.0)
        weight = weight / weight.mean(dim=(1, 2, 3), keepdim=True)
        return super().forward(driving, present, grid)._replace(loss_weight=weight[:, None])


def hand_regions(driving: Driving, height: int, width: int) -> Tensor:
    """Return which cells of an image, divided into height x width, lie around a confident hand.

    [B, T, height, width] bool.
    """
    x, y = (torch.arange(n, device=driving.joints_2d.device) for n in (width, height))
    regions = torch.zeros(*driving.pose_ok.shape, height, width, dtype=torch.bool, device=x.device)
    for joints, labelled in zip(HAND_JOINTS, driving.hands_pose_ok.unbind(-1), strict=True):
        hand = driving.joints_2d[:, :, joints]  # [B, T, 16, 3]
        confident = driving.pose_ok & labelled & (hand[..., 2] > SURE).all(-1)
        low, high = hand[..., :2].amin(2), hand[..., :2].amax(2)  # [B, T, 2]
        margin = MARGIN * (high - low).amax(-1, keepdim=True)
        (left, top), (right, bottom) = ((p.unbind(-1)) for p in (low - margin, high + margin))
        across = (x + 1 > width * left[..., None]) & (x < width * right[..., None])  # [B, T, width]
        down = (y + 1 > height * top[..., None]) & (y < height * bottom[..., None])
        regions |= (down[..., :, None] & across[..., None, :]) & confident[..., None, None]
    return regions
