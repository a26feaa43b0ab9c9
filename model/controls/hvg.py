"""HVG's articulated pose modulation (Wang et al., arXiv 2602.21188): bone maps that modulate blocks of the generator.

The paper names the mechanism and publishes neither code nor settings. Ours: the channels of the map
(`drawing/bone_maps.py`), an embedding of four numbers per bone, AnimateAnyone's pose guider, and a scale and a shift of
the video tokens before every fourth block, zero-initialised. Maps are drawn in the target's camera. The alignment
across views is the generator's (`multiview/attention.py`); that with the reference is not implemented.
"""

from typing import ClassVar, Self

import torch
from diffusers.configuration_utils import register_to_config
from diffusers.models.modeling_utils import ModelMixin  # noqa: F401  # pipelines look it up in this module
from torch import Tensor, nn
from torch.nn.functional import silu

from opendimo.model.batch import Driving
from opendimo.model.controls.guider import Guider, picture_size
from opendimo.model.controls.interface import Control, Shapes
from opendimo.model.drawing.bone_maps import BoneMaps, draw_bone_maps
from opendimo.model.drawing.limbs import LIMBS
from opendimo.model.folding import where_present
from opendimo.model.multiview.cameras import in_target
from opendimo.model.signal import Grid, Signal

EVERY = 4
"""One of so many blocks is modulated, beginning with the first."""
NAMES = 4
"""Width of the embedding of a bone."""
FLAT, SOLID = 3 + NAMES, 3 + 2 * (1 + NAMES)
"""Channels of the 2-D half: direction, position along the bone, bone. Of the 3-D half: normal; nearness and bone of the
nearest surface and of the one behind it."""


class HVGPoseControl(Control):
    """Bone maps with both halves, encoded to a scale and a shift of the video tokens."""

    _supports_gradient_checkpointing = False
    reads_poses = True
    sends_motion = False
    has_features = False
    draws = True
    sees_cameras = True
    solid: ClassVar[bool] = True
    """Whether the map has its 3-D half."""

    @register_to_config
    def __init__(self, width: int, hidden: int = 512, blocks: int = 30, stride: int = 4) -> None:
        super().__init__()
        self.bones = nn.Embedding(len(LIMBS) + 1, NAMES)  # the last one: no bone
        self.guider = Guider(FLAT + SOLID * self.solid, hidden, stride, silent=False)
        self.outs = nn.ModuleList(nn.Linear(hidden, 2 * width) for _ in range(0, blocks, EVERY))
        for parameter in self.outs.parameters():
            nn.init.zeros_(parameter)

    @classmethod
    def fresh(cls, shapes: Shapes) -> Self:
        """Return a new control with random weights and zero-initialised outputs."""
        return cls(shapes.width, min(512, shapes.width), shapes.blocks, shapes.temporal_stride)

    def forward(self, driving: Driving, present: Tensor, grid: Grid) -> Signal:
        """Return a scale and an addition before every `EVERY`-th block."""
        seen = in_target(driving)
        joints, pose_ok, hands_ok, K = (
            x.flatten(0, 1) for x in (seen.joints_3d, seen.pose_ok, seen.hands_pose_ok, seen.K)
        )
        maps = draw_bone_maps(joints, pose_ok, hands_ok, K, *picture_size(grid))
        pictures = self.pictures(maps).unflatten(0, driving.joints_3d.shape[:2])  # [B, T, C, H, W]
        hidden = silu(self.guider(pictures, grid))  # [B, S, hidden]
        scales: list[Tensor | None] = []
        additions: list[Tensor | None] = []
        for out in self.outs:
            scale, addition = (where_present(x, present) for x in out(hidden).chunk(2, dim=-1))  # [B, S, D] each
            between = [None] * (EVERY - 1 if scales else 0)
            scales += [*between, scale]
            additions += [*between, addition]
        return Signal(additions=tuple(additions), scales=tuple(scales))

    def pictures(self, maps: BoneMaps) -> Tensor:
        """Return the channels of maps, [F, C, H, W]."""
        parts = [maps.direction, maps.along, self._names(maps.drawn)]
        if self.solid:
            parts += [maps.normal, maps.nearness, self._names(maps.front)]
            parts += [maps.second_nearness, self._names(maps.second)]
        return torch.cat(parts, dim=1)

    def _names(self, bones: Tensor) -> Tensor:
        """Embed bones [F, H, W], -1 for none, as [F, 4, H, W]."""
        embedded: Tensor = self.bones(torch.where(bones < 0, len(LIMBS), bones))
        return embedded.movedim(-1, 1)


class HVG2DControl(HVGPoseControl):
    """The ablation without the 3-D half of the map."""

    solid = False
