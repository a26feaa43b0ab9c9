"""Input and output types of a training step: `Batch`, `Driving`, `Prediction`."""

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor


class _Tensors:
    """Base class of dataclasses whose fields are tensors or other such dataclasses."""

    def map(self, change: Callable[[Tensor], Tensor]) -> Self:
        """Return a copy with `change` applied to every tensor."""
        parts = {f.name: getattr(self, f.name) for f in fields(self)}  # type: ignore[arg-type]  # a dataclass below
        return type(self)(**{name: _mapped(part, change) for name, part in parts.items()})

    def part(self, chosen: slice) -> Self:
        """Return a copy with some of the samples."""
        return self.map(lambda x: x[chosen])

    def to(self, device: torch.device | str) -> Self:
        """Return a copy on another device."""
        return self.map(lambda x: x.to(device, non_blocking=True))

    def pin_memory(self) -> Self:
        """Return a copy in page-locked memory, from which copies to a GPU are asynchronous."""
        return self.map(Tensor.pin_memory)

    def as_floats(self) -> Self:
        """Return a copy in float32, with uint8 images scaled to [0, 1]."""
        return self.map(_as_float)


def _mapped(part: Any, change: Callable[[Tensor], Tensor]) -> Any:
    return part.map(change) if isinstance(part, _Tensors) else change(part)


def _as_float(x: Tensor) -> Tensor:
    if x.dtype == torch.uint8:
        return x.float() / 255
    return x.float() if x.is_floating_point() else x


@dataclass(frozen=True)
class Driving(_Tensors):
    """Driving inputs available to controls: B samples of T = 4k + 1 frames.

    Readers give images as uint8, a quarter of the bytes; models take them as float32 in [0, 1] (`as_floats`).

    Labels are undefined (any value) where the corresponding `_ok` mask is False. There are 52 joints: 22 of the body,
    15 of the left and 15 of the right hand. Image coordinates (`joints_2d`, `landmarks_2d`, `K`) refer to the centre
    crop of the frame to the target's aspect ratio, with (0, 0) at the upper left corner and (1, 1) at the lower right.
    """

    body: Tensor  # [B, T, 3, S, S] crops of the person, RGB
    hands: Tensor  # [B, T, 2, 3, s, s] crops of the left and the right hand
    hand_ok: Tensor  # [B, T, 2] bool, the hand is visible
    hand_boxes: Tensor  # [B, T, 2, 3] hand crops in the body crop, which spans [-1, 1]: centre x, y, half side
    body6d: Tensor  # [B, T, 21, 6] 6-D rotations of the body joints
    hands6d: Tensor  # [B, T, 2, 15, 6] 6-D rotations of the finger joints
    joints_3d: Tensor  # [B, T, 52, 3] metres, camera coordinates
    joints_2d: Tensor  # [B, T, 52, 3] x, y, confidence: the labelled joints, projected
    landmarks_2d: Tensor  # [B, T, 52, 3] x, y, confidence: the joints as a landmark model saw them
    K: Tensor  # [B, T, 3, 3] intrinsics of the crop
    target_from_driver: Tensor  # [B, T, 3, 4] x_target = R x_driver + t: camera coordinates, metres
    target_K: Tensor  # [B, T, 3, 3] intrinsics of the target, whose frame spans (0, 0) to (1, 1)
    target_ok: Tensor  # [B, T] bool, the target's camera is known
    pose_ok: Tensor  # [B, T] bool, body6d and the body joints are labelled
    hands_pose_ok: Tensor  # [B, T, 2] bool, hands6d and the hand joints are labelled

    @classmethod
    def zeros(cls, samples: int, frames: int, body_size: int, hand_size: int) -> Self:
        """Return a placeholder of zeros with the right shapes."""
        n = samples, frames
        return cls(
            body=torch.zeros(*n, 3, body_size, body_size),
            hands=torch.zeros(*n, 2, 3, hand_size, hand_size),
            hand_ok=torch.zeros(*n, 2, dtype=torch.bool),
            hand_boxes=torch.zeros(*n, 2, 3),
            body6d=torch.zeros(*n, 21, 6),
            hands6d=torch.zeros(*n, 2, 15, 6),
            joints_3d=torch.zeros(*n, 52, 3),
            joints_2d=torch.zeros(*n, 52, 3),
            landmarks_2d=torch.zeros(*n, 52, 3),
            K=torch.zeros(*n, 3, 3),
            target_from_driver=torch.zeros(*n, 3, 4),
            target_K=torch.zeros(*n, 3, 3),
            target_ok=torch.zeros(*n, dtype=torch.bool),
            pose_ok=torch.zeros(*n, dtype=torch.bool),
            hands_pose_ok=torch.zeros(*n, 2, dtype=torch.bool),
        )


@dataclass(frozen=True)
class Batch(_Tensors):
    """Pairs of driving frames and target latents. B samples, L = k + 1 latent frames."""

    target: Tensor  # [B, C, L, h, w] clean normalised latents
    reference: Tensor  # [B, C, 1, h, w] clean normalised latents of the reference image
    text: Tensor  # [B, n, D] text embeddings, padded with zeros
    text_ok: Tensor  # [B, n] bool, False where padded
    weight: Tensor  # [B] quality of the pose labels, in [0, 1]
    same_view: Tensor  # [B] bool, driver and target share one view: image coordinates of one are valid in the other
    driving: Driving


class Prediction(NamedTuple):
    """Output of a model: velocity [B, C, L, h, w], and parts of the control's `Signal`: `features` [B, T, N, d] for
    the geometry head (None without one), and the contributions to the loss `loss_weight` and `losses`."""

    velocity: Tensor
    features: Tensor | None
    loss_weight: Tensor | None
    losses: dict[str, Tensor]
