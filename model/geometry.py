"""Geometry head: an auxiliary pose regressor on the motion tokens, used in the first training stages only.

3DiMo, section 3.3: a light MLP regresses SMPL and MANO poses, without the root orientation, from z; its loss is
annealed to zero and the head removed. Rotations are 6-D (Zhou et al. 2019) [ours]. The twist of a limb about its own
axis is hardly visible, so a loss on rotations alone is misleading: the loss also compares joint positions [ours].
"""

from collections.abc import Callable
from typing import NamedTuple, Self

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn

from opendimo.model.batch import Batch
from opendimo.model.body.kinematics import TEMPLATE, forward_kinematics
from opendimo.model.body.rotations import sixd_to_matrix
from opendimo.model.body.skeleton import BODY_JOINTS, FINGER_JOINTS, SMPLX_JOINTS, SMPLX_PARENTS

TURNED_BODY, TURNED_HAND = len(BODY_JOINTS) - 1, len(FINGER_JOINTS)
"""Number of joint rotations in a pose: 21 for the body, without the pelvis, and 15 for a hand."""
BODY_POINTS = [j for j, parent in enumerate(SMPLX_PARENTS) if parent < len(BODY_JOINTS)]
"""Indices of the 35 joints whose positions depend on body rotations only: the body joints; jaw and eyes, which expose
the head's rotation; and the knuckles, which expose the wrists' rotations."""
HAND_POINTS = [
    [SMPLX_JOINTS.index(f"{side}_{joint}") for joint in ("wrist", *FINGER_JOINTS)] for side in ("left", "right")
]
"""Indices of wrist and finger joints [2, 16] for the left and the right hand."""
_BODY_PARENTS = [SMPLX_PARENTS[j] for j in BODY_POINTS]  # body joints come first, so their indices stay valid
_HAND_PARENTS = [-1] + [HAND_POINTS[0].index(SMPLX_PARENTS[j]) for j in HAND_POINTS[0][1:]]
REST_6D = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
"""The identity rotation."""
NEAR = 1e-3
"""Distance in metres below which the joint error is quadratic rather than linear."""


class GeometryHead(ModelMixin, ConfigMixin):  # type: ignore[misc]  # as all models of diffusers
    """Two MLPs, one for the body and one shared by both hands (whose tokens carry a side embedding).

    Each starts with a batch norm and ends in a zero-initialised layer, so that the first prediction is the rest pose.
    The tokens of a new encoder are nearly the same for every frame. With a layer norm or a random last layer, the
    first steps change that constant part, the frames become indistinguishable, and the encoder collapses [ours,
    measured in training/README.md]. `hand_tokens` = 0: the encoder has no hands, and no hand poses are predicted.
    """

    @register_to_config
    def __init__(self, body_tokens: int = 5, hand_tokens: int = 5, dim: int = 768, width: int = 1024) -> None:
        super().__init__()
        self.body = _mlp(body_tokens * dim, width, TURNED_BODY * 6)
        self.hand = _mlp(hand_tokens * dim, width, TURNED_HAND * 6) if hand_tokens else None

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor | None]:
        """Predict rotations of the body [B, T, 21, 6] and the hands [B, T, 2, 15, 6] from tokens [B, T, N, dim]."""
        body, hands = tokens.tensor_split([self.config["body_tokens"]], dim=2)
        frames = body.shape[:2]
        body6d = self.body(body.flatten(0, 1).flatten(1)).unflatten(0, frames).unflatten(-1, (TURNED_BODY, 6))
        if self.hand is None:
            return body6d, None
        hands = hands.unflatten(2, (2, -1)).flatten(3).flatten(0, 2)  # [B T 2, K_h dim]
        return body6d, self.hand(hands).unflatten(0, (*frames, 2)).unflatten(-1, (TURNED_HAND, 6))


def _mlp(inputs: int, width: int, outputs: int) -> nn.Sequential:
    """Return an MLP from [N, inputs] to 6-D rotations [N, outputs], which initially outputs the rest pose."""
    last = nn.Linear(width, outputs)
    nn.init.zeros_(last.weight)
    with torch.no_grad():
        last.bias.copy_(torch.tensor(REST_6D).repeat(outputs // len(REST_6D)))
    return nn.Sequential(nn.BatchNorm1d(inputs), nn.Linear(inputs, width), nn.GELU(), last)


class PoseLabels(NamedTuple):
    """Labels of driving frames as in `Driving`, and the quality `weight` [B] of each sample's labels, in [0, 1]."""

    weight: Tensor
    body6d: Tensor
    hands6d: Tensor
    pose_ok: Tensor
    hands_ok: Tensor  # [B, T, 2] bool, the hand is labelled and visible

    @classmethod
    def of(cls, batch: Batch) -> Self:
        """Return the labels of a batch."""
        driving = batch.driving
        usable = driving.hands_pose_ok & driving.hand_ok  # a hand that is not visible has only the null token
        return cls(batch.weight, driving.body6d, driving.hands6d, driving.pose_ok, usable)


def geometry_loss(body6d: Tensor, hands6d: Tensor | None, labels: PoseLabels, joints_weight: float) -> Tensor:
    """Return the pose error of the body plus that of the hands, over labelled frames, weighted by `labels.weight`.

    Predictions are those of `GeometryHead`. The error of a pose is the mean squared error of its 6-D rotations, plus
    `joints_weight` times the mean distance, in metres, of its joints on the mean template. Unlabelled values may be
    anything, including NaN.
    """
    weight = labels.weight[:, None]
    # autocast would multiply rotations in bfloat16, an error of centimetres at the end of an arm
    with torch.autocast(weight.device.type, enabled=False):
        loss = _pose_loss(body6d, labels.body6d, weight * labels.pose_ok, body_points, joints_weight)
        if hands6d is None:
            return loss
        hands_weight = weight[..., None] * labels.hands_ok  # [B, T, 2]
        return loss + _pose_loss(hands6d, labels.hands6d, hands_weight, hand_points, joints_weight)


def _pose_loss(
    predicted: Tensor, truth: Tensor, weight: Tensor, points: Callable[[Tensor], Tensor], joints_weight: float
) -> Tensor:
    """Return the weighted mean error of poses [..., J, 6]. `weight` [...] >= 0, 0 = no label; 0 if all weights are."""
    predicted = predicted.float()
    truth = torch.where(weight[..., None, None] > 0, truth, predicted.detach())
    error = (predicted - truth).square().mean(dim=(-1, -2))
    if joints_weight:
        error = error + joints_weight * distance(points(predicted), points(truth)).mean(-1)
    return (weight * error).sum() / weight.sum().clamp(min=1e-6)


def distance(first: Tensor, second: Tensor) -> Tensor:
    """Return distances between points [..., 3], smooth (differentiable) at zero distance."""
    return ((first - second).square().sum(-1) + NEAR**2).sqrt() - NEAR


def body_points(body6d: Tensor) -> Tensor:
    """Return positions of `BODY_POINTS` on the mean template, with the pelvis fixed.

    Rotations [..., 21, 6] -> [..., 35, 3] in metres.
    """
    return forward_kinematics(_padded(body6d, len(BODY_POINTS)), TEMPLATE[BODY_POINTS].to(body6d), _BODY_PARENTS)


def hand_points(hands6d: Tensor) -> Tensor:
    """Return positions of wrist and finger joints of the left and the right hand, relative to the fixed wrist.

    Rotations [..., 2, 15, 6] -> [..., 2, 16, 3] in metres.
    """
    rest = torch.stack([TEMPLATE[points] for points in HAND_POINTS]).to(hands6d)  # [2, 16, 3]
    points = forward_kinematics(_padded(hands6d, 1 + TURNED_HAND), rest, _HAND_PARENTS)
    return points - rest[:, :1]


def _padded(sixd: Tensor, joints: int) -> Tensor:
    """Pad 6-D rotations [..., n, 6] to matrices [..., joints, 3, 3]: the root and the last joints get the identity."""
    rotations = sixd_to_matrix(sixd)
    identity = torch.eye(3).to(rotations).expand(*rotations.shape[:-3], joints - rotations.shape[-3], 3, 3)
    return torch.cat([identity[..., :1, :, :], rotations, identity[..., 1:, :, :]], dim=-3)
