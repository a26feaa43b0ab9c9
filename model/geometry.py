"""The geometry head, scaffolding of the first training stages: poses read off the motion tokens.

3DiMo, section 3.3: a light MLP regresses SMPL and MANO poses, without the root orientation, from z; its loss is
annealed to zero and the head removed. Rotations are 6-D (Zhou et al. 2019) [ours].
"""

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn

from model.batch import Batch, Prediction

BODY_JOINTS, HAND_JOINTS = 21, 15


class GeometryHead(ModelMixin, ConfigMixin):  # type: ignore[misc]  # as all models of diffusers
    """Two MLPs, one for the body and one that both hands share (their tokens carry a side embedding)."""

    @register_to_config
    def __init__(self, body_tokens: int = 5, hand_tokens: int = 5, dim: int = 768, width: int = 1024) -> None:
        super().__init__()
        self.body = _mlp(body_tokens * dim, width, BODY_JOINTS * 6)
        self.hand = _mlp(hand_tokens * dim, width, HAND_JOINTS * 6)

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """[B, T, N, dim] -> rotations of the body [B, T, 21, 6] and of the hands [B, T, 2, 15, 6]."""
        body, hands = tokens.tensor_split([self.config["body_tokens"]], dim=2)
        hands = hands.unflatten(2, (2, -1)).flatten(3)  # [B, T, 2, K_h dim]
        return self.body(body.flatten(2)).unflatten(-1, (BODY_JOINTS, 6)), self.hand(hands).unflatten(
            -1, (HAND_JOINTS, 6)
        )


def _mlp(inputs: int, width: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.LayerNorm(inputs), nn.Linear(inputs, width), nn.GELU(), nn.Linear(width, outputs))


def masked_l2(predicted: Tensor, truth: Tensor, weight: Tensor) -> Tensor:
    """Weighted mean of the squared error over rotations [..., joints, 6]; `weight` [...] >= 0, 0 = no label there.

    Truth may hold anything, also NaN, where the weight is zero. Zero when every weight is.
    """
    truth = torch.where(weight[..., None, None] > 0, truth, predicted.detach())
    error = (predicted - truth).float().square().mean(dim=(-1, -2))
    return (weight * error).sum() / weight.sum().clamp(min=1e-6)


def geometry_loss(prediction: Prediction, batch: Batch) -> Tensor:
    """Error of the body's plus that of the hands' rotations, weighted by `batch.weight`, over labelled frames only."""
    if prediction.body6d is None or prediction.hands6d is None:
        raise ValueError("the model has no geometry head: its pose loss cannot be computed")
    driving = batch.driving
    body = batch.weight[:, None] * driving.pose_ok  # [B, T]
    hands = batch.weight[:, None, None] * driving.hands_pose_ok  # [B, T, 2]
    return masked_l2(prediction.body6d, driving.body6d, body) + masked_l2(prediction.hands6d, driving.hands6d, hands)
