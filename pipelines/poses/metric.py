"""Precondition the fit, so that a few steps of L-BFGS suffice.

Near the initial pose the objective is about x^T (D + L^2 S) x / 2. D is the Gauss-Newton matrix of the data and the
prior, S that of the smoothness (one matrix for all frames: the mean over a few), L the second difference over time,
which the cosine transform diagonalises (eigenvalues 2 - 2 cos(pi k / T)). The generalised eigenvalue problem
S v = l D v then diagonalises everything at once.
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
    """Preconditioner: `scale` [T, n] of each frequency and mode, `modes` [n, n]."""

    scale: Tensor
    modes: Tensor

    def variables(self, coordinates: Tensor) -> Tensor:
        """Convert well-conditioned coordinates [T, n] to variables per frame [T, n]."""
        return inverse_dct(coordinates * self.scale) @ self.modes.mT


def jacobian(posed: Posed) -> Tensor:
    """Return the Jacobian [T, P, 3, 159] of the points by pelvis position (3) and local joint rotations (52 x 3)."""
    frames, points = posed.points.shape[:2]
    arm = (posed.points[:, None] - posed.joints[:, :, None]) * BELOW[:, :, None]  # [T, 52, P, 3]
    axes = posed.rotations.mT  # [T, 52, 3 axes, 3]
    turned = torch.linalg.cross(axes[:, :, :, None], arm[:, :, None], dim=-1)  # [T, 52, 3 axes, P, 3]
    pelvis = torch.eye(3).expand(frames, points, 3, 3)
    return torch.cat([pelvis, turned.permute(0, 3, 4, 1, 2).flatten(3)], -1)


def metric(data: Tensor, smooth: Tensor, frames: int) -> Metric:
    """Return the preconditioner for `frames` frames from the matrices D and S of the module docstring, both [n, n]."""
    ridge = 1e-4 * data.diagonal().mean() * torch.eye(len(data))
    values, modes = eigh(smooth.double().numpy(), (data + ridge).double().numpy())
    second = 2 - 2 * np.cos(np.pi * np.arange(frames) / frames)
    scale = (1 + second[:, None] ** 2 * np.maximum(values, 0)) ** -0.5
    return Metric(torch.tensor(scale, dtype=torch.float32), torch.tensor(modes, dtype=torch.float32))


def inverse_dct(coefficients: Tensor) -> Tensor:
    """Compute the inverse of the orthonormal cosine transform (type II) over the first axis, [T, n]."""
    frames = len(coefficients)
    k = torch.arange(frames)
    weight = torch.full((frames,), (2 * frames) ** 0.5)
    weight[0] = 2 * frames**0.5
    phase = torch.polar(weight, torch.pi * k / (2 * frames))
    spectrum = torch.cat([coefficients * phase[:, None], coefficients.new_zeros(1, coefficients.shape[1])])
    return torch.fft.irfft(spectrum, n=2 * frames, dim=0)[:frames]
