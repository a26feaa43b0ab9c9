"""3DiMo's ablation "w/ SMPL ctrl": SMPL pose parameters instead of tokens encoded from pixels.

Unchanged: the number of tokens per frame, the motion cross-attention, the trained weights, the data. The paper only
says that it uses body pose coefficients. Our choices: 6-D rotations and a linear map; MANO poses for the hands, if the
encoder that it is compared with has hands; a learned token for frames or hands without a label.
"""

from typing import Self

import torch
from diffusers.configuration_utils import register_to_config
from diffusers.models.modeling_utils import ModelMixin  # noqa: F401  # pipelines look it up in this module
from torch import Tensor, nn

from opendimo.model.batch import Driving
from opendimo.model.controls.interface import Control, Shapes
from opendimo.model.signal import Grid, MotionTokens, Signal

BODY, HAND = 21 * 6, 15 * 6  # values per pose


class SMPLTokensControl(Control):
    """Linear maps of the pose of each frame: [21 x 6] to K tokens, and [15 x 6] to K_h tokens for either hand."""

    _supports_gradient_checkpointing = False
    reads_poses = True
    sends_motion = True
    has_features = False

    @register_to_config
    def __init__(self, dim: int, body_tokens: int = 5, hand_tokens: int = 5) -> None:
        super().__init__()
        self.body = nn.Linear(BODY, body_tokens * dim)
        self.missing_body = nn.Parameter(0.02 * torch.randn(body_tokens, dim))
        if hand_tokens:
            self.hand = nn.Linear(HAND, hand_tokens * dim)
            self.side = nn.Parameter(0.02 * torch.randn(2, 1, dim))
            self.missing_hand = nn.Parameter(0.02 * torch.randn(hand_tokens, dim))

    @classmethod
    def fresh(cls, shapes: Shapes) -> Self:
        """Return a new control with as many tokens as the encoder has."""
        encoder = shapes.encoder
        return cls(encoder.dim, encoder.body_tokens, encoder.hand_tokens if encoder.hands else 0)

    def forward(self, driving: Driving, present: Tensor, grid: Grid) -> Signal:
        """Return motion tokens [B, T, N, d] in the order body, left hand, right hand."""
        tokens = _mapped(self.body, driving.body6d, driving.pose_ok, self.missing_body)  # [B, T, K, d]
        if self.config["hand_tokens"]:
            hands = _mapped(self.hand, driving.hands6d, driving.hands_pose_ok, self.missing_hand) + self.side
            tokens = torch.cat([tokens, hands.flatten(2, 3)], dim=2)  # [B, T, 2, K_h, d] -> [B, T, K + 2 K_h, d]
        return Signal(motion=MotionTokens(tokens, present))


def _mapped(linear: nn.Linear, rotations: Tensor, ok: Tensor, missing: Tensor) -> Tensor:
    """Map rotations [..., joints, 6] to tokens [..., K, d]; `missing` [K, d] if not `ok` [...]."""
    known = torch.where(ok[..., None, None], rotations, 0.0).flatten(-2)
    tokens = linear(known.to(linear.weight.dtype)).unflatten(-1, missing.shape)
    return torch.where(ok[..., None, None], tokens, missing)
