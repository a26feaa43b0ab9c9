"""AnimateAnyone (Hu et al. 2024): the driver's 2-D skeleton, drawn and encoded by a light pose guider.

As published: a coloured skeleton of body and hands at the size of the target, the pose guider (3x3 convolutions of 16,
32, 64, 128 channels, strided, the last one zero-initialised), and its output added to the first layer's input.
Simplified: joints are those of our landmark model rather than DWPose (exact on renders), and there is no face; the
generator's own reference conditioning and temporal layers replace ReferenceNet and AnimateAnyone's temporal layers; the
frames of a latent frame are encoded together.
"""

from typing import Self

import torch
from diffusers.configuration_utils import register_to_config
from diffusers.models.modeling_utils import ModelMixin  # noqa: F401  # pipelines look it up in this module
from torch import Tensor

from opendimo.model.batch import Driving
from opendimo.model.body.skeleton import BONES
from opendimo.model.controls.guider import Guider, picture_size
from opendimo.model.controls.interface import Control, Shapes
from opendimo.model.drawing.limbs import limbs_ok
from opendimo.model.drawing.skeleton_picture import draw_skeleton
from opendimo.model.driving.regions import SURE
from opendimo.model.folding import where_present
from opendimo.model.signal import Grid, Signal


class Pose2DControl(Control):
    """Skeleton images encoded by a pose guider."""

    _supports_gradient_checkpointing = False
    reads_poses = True
    sends_motion = False
    has_features = False
    draws = True

    @register_to_config
    def __init__(self, width: int, stride: int = 4) -> None:
        super().__init__()
        self.guider = Guider(3, width, stride)

    @classmethod
    def fresh(cls, shapes: Shapes) -> Self:
        """Return a new control with random weights and a zero-initialised output."""
        return cls(shapes.width, shapes.temporal_stride)

    def forward(self, driving: Driving, present: Tensor, grid: Grid) -> Signal:
        """Return one addition, before the first block."""
        joints, strength = driving.landmarks_2d[..., :2].flatten(0, 1), self.strength(driving).flatten(0, 1)
        pictures = draw_skeleton(joints, strength, *picture_size(grid)).unflatten(0, driving.landmarks_2d.shape[:2])
        return Signal(additions=(where_present(self.guider(pictures, grid), present),))

    def strength(self, driving: Driving) -> Tensor:
        """Return the brightness each bone is drawn with, [B, T, 51]: 1 if it is labelled and confident, else 0."""
        return (bone_confidence(driving) > SURE**2).float()


def bone_confidence(driving: Driving) -> Tensor:
    """Return the product of the confidences of a bone's two joints [B, T, 51].

    It is 0 if a joint is not labelled or its confidence is at most `SURE`.
    """
    confidence = driving.landmarks_2d[..., 2]
    confidence = torch.where(confidence > SURE, confidence, 0.0).clamp(max=1)  # NaN becomes 0
    parents, children = torch.tensor(BONES, device=confidence.device).T
    ok = limbs_ok(driving.pose_ok, driving.hands_pose_ok)[..., : len(BONES)]
    return torch.where(ok, confidence[..., parents] * confidence[..., children], 0.0)
