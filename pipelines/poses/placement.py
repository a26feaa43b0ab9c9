"""Compute the translation of a posed body from its observed points: linear least squares, no iteration."""

import numpy as np
import torch
from torch import Tensor

from opendimo.pipelines.poses.crops import fill

ENOUGH = 3.0
"""Minimum sum of confidences of a frame; frames with less are interpolated."""
NEAR = 0.1
"""Minimum depth of a visible point, metres."""


def rays(pixels: Tensor, K: Tensor) -> Tensor:
    """Convert pixels [T, P, 2+] to x/z, y/z [T, P, 2] of a camera with `K` [T, 3, 3]."""
    homogeneous = torch.cat([pixels[..., :2], torch.ones_like(pixels[..., :1])], -1)
    return torch.linalg.solve(K[:, None], homogeneous[..., None])[..., :2, 0]


def place_by_rays(points: Tensor, seen: Tensor, weight: Tensor, camera: Tensor) -> Tensor:
    """Return the translation [T, 3] of `points` [T, P, 3] that best fits the rays `seen` [T, P, 2] of `camera`.

    `camera` [T, 3, 4], `weight` [T, P]. Raises `ValueError` if no frame shows enough points.
    """
    rotation, shift = camera[:, :, :3], camera[:, :, 3]
    turned = points @ rotation.mT
    # (x + a) = u (z + c) and (y + b) = v (z + c) are linear in the translation (a, b, c)
    rows = torch.zeros(*seen.shape, 3)  # [T, P, 2, 3]
    rows[..., 0, 0] = rows[..., 1, 1] = 1
    rows[..., 2] = -seen
    right = seen * turned[..., 2:] - turned[..., :2]
    A = (rows * weight[..., None, None]).flatten(1, 2).double()
    b = (right * weight[..., None]).flatten(1).double()
    solution = (torch.linalg.pinv(A) @ b[..., None])[..., 0]  # [T, 3]
    solution[(weight.sum(1) < ENOUGH) | (solution[:, 2] < NEAR)] = torch.nan
    return ((_filled(solution) - shift)[:, None] @ rotation)[:, 0]


def place_by_points(points: Tensor, seen: Tensor, weight: Tensor) -> Tensor:
    """Return the translation [T, 3] of `points` [T, P, 3] that best fits their observed positions `seen` [T, P, 3]."""
    total = weight.sum(1, keepdim=True)
    mean = (weight[..., None] * (seen - points)).sum(1) / total.clamp(min=1e-6)
    return _filled(torch.where(total >= ENOUGH, mean, torch.nan))


def _filled(values: Tensor) -> Tensor:
    return torch.tensor(fill(np.asarray(values, np.float64)), dtype=torch.float32)
