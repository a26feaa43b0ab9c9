"""MTVCrafter (Ding et al. 2025): quantised motion tokens of SMPL joints, injected through cross-attention.

As published: a VQ-VAE of joint positions with 2-D convolutions over time and joints, an EMA codebook of 8192 codes with
resets of dead codes, L1 reconstruction and half-weighted commitment loss, codes as wide as the attention's input, one
token per joint, a learned token for dropped motion, and no gradient from the generator's loss to the codes. Simplified:
the VQ-VAE is trained jointly with the generator rather than before it; it does not compress time, because attention is
aligned with latent frames anyway; a learned embedding of each joint and the alignment's time embedding replace 4-D
rotary embeddings (whose spatial part is constant for each joint, too); 22 joints rather than 24.
"""

from typing import Self

import torch
from diffusers.configuration_utils import register_to_config
from diffusers.models.modeling_utils import ModelMixin  # noqa: F401  # pipelines look it up in this module
from torch import Tensor, nn

from opendimo.model.batch import Driving
from opendimo.model.controls.interface import Control, Shapes
from opendimo.model.controls.quantiser import Quantiser
from opendimo.model.signal import Grid, MotionTokens, Signal

JOINTS = 22
COMMITMENT = 0.5
RESIDUALS = 3  # residual blocks in the encoder and in the decoder
GROUPS = 8  # groups of the group norms


class SMPLVQControl(Control):
    """22 tokens per frame: the quantised codes of its joints."""

    _supports_gradient_checkpointing = False
    reads_poses = True
    sends_motion = True
    has_features = False

    @register_to_config
    def __init__(self, dim: int, codes: int = 8192) -> None:
        super().__init__()
        width = max(dim // 2 // GROUPS, 4) * GROUPS
        self.encoder = _convolutions(3, width, dim)
        self.quantiser = Quantiser(codes, dim)
        self.decoder = _convolutions(dim, width, 3)
        self.joint = nn.Parameter(0.02 * torch.randn(JOINTS, dim))
        self.missing = nn.Parameter(0.02 * torch.randn(dim))

    @classmethod
    def fresh(cls, shapes: Shapes) -> Self:
        """Return a new control whose codes have the width of motion tokens."""
        return cls(shapes.encoder.dim)

    def forward(self, driving: Driving, present: Tensor, grid: Grid) -> Signal:
        """Return motion tokens [B, T, 22, d] and VQ-VAE losses; in training mode the codebook is updated."""
        ok = driving.pose_ok[..., None].expand(-1, -1, JOINTS)  # [B, T, J]
        joints = centred(driving).to(self.dtype)
        encoded = self.encoder(joints.movedim(-1, 1)).movedim(1, -1)  # [B, 3, T, J] -> [B, T, J, d]
        codes = self.quantiser(encoded, ok)
        decoded = self.decoder(codes.vectors.movedim(-1, 1)).movedim(1, -1)  # [B, T, J, 3]
        tokens = torch.where(ok[..., None], codes.vectors.detach(), self.missing) + self.joint
        losses = {
            "reconstruction": _mean((decoded - joints).float().abs().mean(-1), ok),
            "commitment": COMMITMENT * _mean(codes.commitment, ok),
        }
        return Signal(motion=MotionTokens(tokens, present), losses=losses)


def centred(driving: Driving) -> Tensor:
    """Return body joints [B, T, 22, 3] in metres, relative to the window's mean pelvis; zeros if not labelled."""
    ok = driving.pose_ok[..., None, None]
    joints = torch.where(ok, driving.joints_3d[:, :, :JOINTS], 0.0)
    mean_pelvis = joints[:, :, :1].sum(1, keepdim=True) / ok.sum(1, keepdim=True).clamp(min=1)  # [B, 1, 1, 3]
    return torch.where(ok, joints - mean_pelvis, 0.0)


def _convolutions(channels: int, width: int, out: int) -> nn.Sequential:
    """Return a residual convolutional network from [B, channels, T, J] to [B, out, T, J]."""
    blocks = (_Residual(width) for _ in range(RESIDUALS))
    return nn.Sequential(nn.Conv2d(channels, width, 3, padding=1), *blocks, nn.Conv2d(width, out, 3, padding=1))


class _Residual(nn.Module):
    """A residual block of convolutions over time and joints."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.GroupNorm(GROUPS, width),
            nn.SiLU(),
            nn.Conv2d(width, width, 3, padding=1),
            nn.GroupNorm(GROUPS, width),
            nn.SiLU(),
            nn.Conv2d(width, width, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)


def _mean(values: Tensor, ok: Tensor) -> Tensor:
    """Return the mean of the values that are `ok`; 0 if there are none."""
    return (values * ok).sum() / ok.sum().clamp(min=1)
