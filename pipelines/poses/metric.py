"""Coordinates in which the fit is well conditioned, so that a few steps of L-BFGS do.

Near the first guess the objective is about x^T (D + L^2 S) x / 2: D is what the data and the prior, S what smoothness
weigh (by Gauss-Newton, one matrix for all frames: the mean over a few), L the second difference over time, which the
cosine transform makes diagonal (eigenvalues 2 - 2 cos(pi k / T)). Solving S v = l D v makes all diagonal at once.
"""

from dataclasses import dataclass

import numpy as np
import torch
from scipy.linalg import eigh
from torch import Tensor

from opendimo.pipelines.poses.kinematics import BELOW, Posed

SAMPLES = 16


@dataclass(frozen=True)
class Metric:
    """`scale` [T, n] of each frequency and mode, `modes` [n, n]."""

    scale: Tensor
    modes: Tensor

    def variables(self, coordinates: Tensor) -> Tensor:
        """[T, n] well-conditioned coordinates -> [T, n] variables per frame."""
        return inverse_dct(coordinates * self.scale) @ self.modes.mT


def jacobian(posed: Posed) -> Tensor:
    """How points move with the pelvis (3), and with joints turned about their own axes (52 x 3): [T, P, 3, 159]."""
    frames, points = posed.points.shape[:2]
    arm = (posed.points[:, None] - posed.joints[:, :, None]) * BELOW[:, :, None]  # [T, 52, P, 3]
    axes = posed.rotations.mT  # [T, 52, 3 axes, 3]
    turned = torch.linalg.cross(axes[:, :, :, None], arm[:, :, None], dim=-1)  # [T, 52, 3 axes, P, 3]
    pelvis = torch.eye(3).expand(frames, points, 3, 3)
    return torch.cat([pelvis, turned.permute(0, 3, 4, 1, 2).flatten(3)], -1)


def metric(data: Tensor, smooth: Tensor, frames: int) -> Metric:
    """The metric of `frames` frames from the matrices D and S above, both [n, n]."""
    ridge = 1e-4 * data.diagonal().mean() * torch.eye(len(data))
    values, modes = eigh(smooth.double().numpy(), (data + ridge).double().numpy())
    second = 2 - 2 * np.cos(np.pi * np.arange(frames) / frames)
    scale = (1 + second[:, None] ** 2 * np.maximum(values, 0)) ** -0.5
    return Metric(torch.tensor(scale, dtype=torch.float32), torch.tensor(modes, dtype=torch.float32))


def inverse_dct(coefficients: Tensor) -> Tensor:
    """Inverse of the orthonormal cosine transform (type II) over the first axis, [T, n]."""
    frames = len(coefficients)
    k = torch.arange(frames)
    weight = torch.full((frames,), (2 * frames) ** 0.5)
    weight[0] = 2 * frames**0.5
    phase = torch.polar(weight, torch.pi * k / (2 * frames))
    spectrum = torch.cat([coefficients * phase[:, None], coefficients.new_zeros(1, coefficients.shape[1])])
    return torch.fft.irfft(spectrum, n=2 * frames, dim=0)[:frames]
