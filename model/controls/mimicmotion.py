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
from opendimo.model.controls.pose2d import Pose2DControl, bone_confidence
from opendimo.model.driving.regions import hand_regions
from opendimo.model.folding import by_latent_frame
from opendimo.model.signal import Grid, Signal

AMPLIFIED = 10.0


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
