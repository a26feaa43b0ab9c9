"""What a fit is held to: pixels along rays, points in space, a shape about any origin. Each says how far off it is, in
half squares of standard deviations, and how firmly it holds each point (the Gauss-Newton matrix of the same)."""

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
    """Points seen along `rays` [T, P, 2] (x/z, y/z) of `camera` [T, 3, 4], with `confidence` [T, P]; `sigma` [P] metres
    at the person's `depth` [T, 1, 1]."""

    rays: Tensor
    confidence: Tensor
    camera: Tensor
    depth: Tensor
    sigma: Tensor
    robust: float

    def loss(self, points: Tensor) -> Tensor:
        """Of `points` [T, P, 3]."""
        seen = points @ self.camera[:, :, :3].mT + self.camera[:, None, :, 3]
        slope = seen[..., :2] / seen[..., 2:].clamp(min=NEAR)
        off = ((slope - self.rays) * self.depth).square().sum(-1) / self.sigma**2
        return (self.confidence * _pull(off, self.robust)).sum() / 2

    def hold(self, points: Tensor, some: Tensor) -> Tensor:
        """[S, P, 3, 3] of `points` [S, P, 3] of the frames `some` [S]: firm across the line of sight, free along it."""
        rotation, shift = self.camera[some, :, :3], self.camera[some, None, :, 3]
        sight = normalize((points @ rotation.mT + shift) @ rotation, dim=-1)  # in the fit frame
        across = torch.eye(3) - sight[..., :, None] * sight[..., None, :]
        return (self.confidence[some] / self.sigma**2)[..., None, None] * across


@dataclass(frozen=True)
class AtPoints:
    """Points seen at `points` [T, P, 3], with `confidence` [T, P]; `sigma` [P] metres."""

    points: Tensor
    confidence: Tensor
    sigma: Tensor
    robust: float

    def loss(self, points: Tensor) -> Tensor:
        """Of `points` [T, P, 3]."""
        off = (points - self.points).square().sum(-1) / self.sigma**2
        return (self.confidence * _pull(off, self.robust)).sum() / 2

    def hold(self, points: Tensor, some: Tensor) -> Tensor:
        """[S, P, 3, 3] of the frames `some` [S]: as firm in all directions."""
        return (self.confidence[some] / self.sigma**2)[..., None, None] * torch.eye(3)


@dataclass(frozen=True)
class InShape:
    """Points seen at `points` [T, P, 3] about an unknown origin per frame and group; otherwise as `AtPoints`."""

    points: Tensor
    confidence: Tensor
    sigma: Tensor
    robust: float

    def loss(self, points: Tensor) -> Tensor:
        """Of `points` [T, P, 3], each group about its mean."""
        difference = points - self.points
        weight = IN_GROUP * self.confidence[:, None]  # [T, 3 groups, P]
        mean = (weight @ difference) / weight.sum(-1, keepdim=True).clamp(min=1e-6)
        off = (difference - mean[:, GROUP]).square().sum(-1) / self.sigma**2
        return (self.confidence * _pull(off, self.robust)).sum() / 2

    def hold(self, points: Tensor, some: Tensor) -> Tensor:
        """[S, P, 3, 3] of the frames `some` [S], as if the origin were known."""
        return (self.confidence[some] / self.sigma**2)[..., None, None] * torch.eye(3)


Term = OnRays | AtPoints | InShape


def _pull(squares: Tensor, scale: float) -> Tensor:
    """Pseudo-Huber: squares that grow only linearly beyond `scale`."""
    return 2 * scale**2 * ((1 + squares / scale**2).sqrt() - 1)
