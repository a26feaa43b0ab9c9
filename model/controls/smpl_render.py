"""Uni3C (Cao et al. 2025): a rendering of the body under its camera, encoded by a separate branch of blocks.

As published: geometry rather than a drawing (depth and normals, which separate camera motion from body motion), a
branch of narrow blocks beside the generator, and zero-initialised outputs of each of them into the generator's first
blocks. Simplified: the body consists of capsules around our labels' joints rather than SMPL-X's skin; there is no point
cloud of the scene, so the background is not controlled; convolutions rather than the VAE encode the images; the blocks
(4 rather than 20, width 512 rather than 1024) are plain transformer layers without timestep input, with positions from
a depthwise convolution.
"""

from typing import Self

import torch
from diffusers.configuration_utils import register_to_config
from diffusers.models.modeling_utils import ModelMixin  # noqa: F401  # pipelines look it up in this module
from torch import Tensor, nn

from opendimo.model.batch import Driving
from opendimo.model.controls.guider import Guider, picture_size
from opendimo.model.controls.interface import Control, Shapes
from opendimo.model.drawing.capsules import render
from opendimo.model.drawing.limbs import body_capsules
from opendimo.model.folding import where_present
from opendimo.model.signal import Grid, Signal

BLOCKS, HEAD = 4, 64
CHANNELS = 4  # surface normal and inverse depth


class SMPLRenderControl(Control):
    """Renderings of a capsule body encoded by a branch of attention blocks."""

    reads_poses = True
    sends_motion = False
    has_features = False
    draws = True

    @register_to_config
    def __init__(self, width: int, branch_width: int = 512, stride: int = 4) -> None:
        super().__init__()
        self.embed = Guider(CHANNELS, branch_width, stride, silent=False)
        self.blocks = nn.ModuleList(BranchBlock(branch_width) for _ in range(BLOCKS))
        self.outs = nn.ModuleList(nn.Linear(branch_width, width) for _ in range(BLOCKS))
        for parameter in self.outs.parameters():
            nn.init.zeros_(parameter)
        self.gradient_checkpointing = False

    @classmethod
    def fresh(cls, shapes: Shapes) -> Self:
        """Return a new control whose branch is at most as wide as the generator, with a whole number of heads."""
        return cls(shapes.width, max(min(512, shapes.width) // HEAD, 1) * HEAD, shapes.temporal_stride)

    def forward(self, driving: Driving, present: Tensor, grid: Grid) -> Signal:
        """Return an addition before each of the first `BLOCKS` blocks."""
        hidden = self.embed(draw_body(driving, *picture_size(grid)), grid)  # [B, S, branch width]
        additions = []
        for block, out in zip(self.blocks, self.outs, strict=True):
            if self.gradient_checkpointing and torch.is_grad_enabled():
                hidden = self._gradient_checkpointing_func(block, hidden, grid)
            else:
                hidden = block(hidden, grid)
            additions.append(where_present(out(hidden), present))
        return Signal(additions=tuple(additions))


class BranchBlock(nn.Module):
    """A depthwise convolution for positions, then attention over all tokens, then an MLP."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.position = nn.Conv3d(width, width, 3, padding=1, groups=width)
        self.layer = nn.TransformerEncoderLayer(
            width, width // HEAD, 4 * width, 0.0, "gelu", batch_first=True, norm_first=True
        )

    def forward(self, hidden: Tensor, grid: Grid) -> Tensor:
        """Transform tokens [B, S, width]."""
        volume = hidden.transpose(1, 2).unflatten(2, grid[:3])  # [B, width, L, h, w]
        return self.layer(hidden + self.position(volume).flatten(2).transpose(1, 2))


def draw_body(driving: Driving, height: int, width: int) -> Tensor:
    """Render surface normals in camera coordinates and inverse depth (1 / metres) [B, T, 4, H, W]; background is 0."""
    joints, pose_ok, hands_ok, K = (
        x.flatten(0, 1) for x in (driving.joints_3d, driving.pose_ok, driving.hands_pose_ok, driving.K)
    )
    rendering = render(body_capsules(joints, pose_ok, hands_ok), K, height, width)
    pictures = torch.cat([rendering.normal, 1 / rendering.depth[..., None]], dim=-1)  # [B T, H, W, 4]
    return pictures.movedim(-1, 1).unflatten(0, driving.joints_3d.shape[:2])
