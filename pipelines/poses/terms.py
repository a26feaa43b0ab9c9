"""Data terms of the fit: points on camera rays, points in space, points about an unknown origin.

Each term has a `loss`, half a sum of squared residuals in standard deviations, and `hold`, the Gauss-Newton matrix of
that loss for each point.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from opendimo.pipelines.poses.mapping import GROUP
from opendimo.pipelines.poses.placement import NEAR

OF_HAND = torch.tensor(GROUP > 0)
IN_GROUP = torch.tensor(np.stack([g == GROUP for g in range(3)]), dtype=torch.float32)  # [3, P]


@dataclass(frozen=True)
class OnRays:
    """Points observed on `rays` [T, P, 2] (x/z, y/z) of `camera` [T, 3, 4], with `confidence` [T, P]; `sigma` [P] is in
    metres at the person's `depth` [T, 1, 1]."""

    rays: Tensor
    confidence: Tensor
    camera: Tensor
    depth: Tensor
    sigma: Tensor
    robust: float

    def loss(self, points: Tensor) -> Tensor:
        """Return the loss of `points` [T, P, 3]."""
        in_camera = points @ self.camera[:, :, :3].mT + self.camera[:, None, :, 3]
        slope = in_camera[..., :2] / in_camera[..., 2:].clamp(min=NEAR)
        off = ((slope - self.rays) * self.depth).square().sum(-1) / self.sigma**2
        return (self.confidence * _pseudo_huber(off, self.robust)).sum() / 2

    def hold(self, points: Tensor, some: Tensor) -> Tensor:
        """Return [S, P, 3, 3] for `points` [S, P, 3] of the frames `some` [S]; zero along the line of sight."""
        rotation, shift = self.camera[some, :, :3], self.camera[some, None, :, 3]
        sight = normalize((points @ rotation.mT + shift) @ rotation, dim=-1)  # in the fit frame
        across = torch.eye(3) - sight[..., :, None] * sight[..., None, :]
        return (self.confidence[some] / self.sigma**2)[..., None, None] * across


@dataclass(frozen=True)
class AtPoints:
    """Points observed at `points` [T, P, 3], with `confidence` [T, P]; `sigma` [P] metres."""

    points: Tensor
    confidence: Tensor
    sigma: Tensor
    robust: float

    def loss(self, points: Tensor) -> Tensor:
        """Return the loss of `points` [T, P, 3]."""
        off = (points - self.points).square().sum(-1) / self.sigma**2
        return (self.confidence * _pseudo_huber(off, self.robust)).sum() / 2

    def hold(self, points: Tensor, some: Tensor) -> Tensor:
        """Return [S, P, 3, 3] for the frames `some` [S]: isotropic."""
        return (self.confidence[some] / self.sigma**2)[..., None, None] * torch.eye(3)


@dataclass(frozen=True)
class InShape:
    """Points observed at `points` [T, P, 3] about an unknown origin per frame and group; otherwise like `AtPoints`."""

    points: Tensor
    confidence: Tensor
    sigma: Tensor
    robust: float

    def loss(self, points: Tensor) -> Tensor:
        """Return the loss of `points` [T, P, 3], each group relative to its mean."""
        difference = points - self.points
        weight = IN_GROUP * self.confidence[:, None]  # [T, 3 groups, P]
        mean = (weight @ difference) / weight.sum(-1, keepdim=True).clamp(min=1e-6)
        off = (difference - mean[:, GROUP]).square().sum(-1) / self.sigma**2
        return (self.confidence * _pseudo_huber(off, self.robust)).sum() / 2

    def hold(self, points: Tensor, some: Tensor) -> Tensor:
        """Return [S, P, 3, 3] for the frames `some` [S], as if the origin were known."""
        return (self.confidence[some] / self.sigma**2)[..., None, None] * torch.eye(3)


Term = OnRays | AtPoints | InShape


def _pseudo_huber(squares: Tensor, scale: float) -> Tensor:
    """Return the pseudo-Huber loss of `squares`: quadratic up to about `scale` standard deviations, then linear."""
    return 2 * scale**2 * ((1 + squares / scale**2).sqrt() - 1)
