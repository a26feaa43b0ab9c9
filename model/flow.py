"""Flow matching: straight paths from data (sigma 0) to noise (sigma 1), and a network that predicts their velocity.

x_sigma = (1 - sigma) x_0 + sigma noise, v = dx/dsigma = noise - x_0 (Lipman et al. 2023, Esser et al. 2024; the
convention of Wan and of diffusers' FlowMatchEulerDiscreteScheduler). 3DiMo calls it flow-based v-prediction.
"""

from pathlib import Path

import torch
from torch import Tensor

from opendimo.model.base_folder import part_config

TIMESTEPS = 1000
"""The network's timestep input is `sigma * TIMESTEPS` (`num_train_timesteps` of the schedulers)."""


def per_sample(values: Tensor, like: Tensor) -> Tensor:
    """Reshape values [B] so that they broadcast over samples [B, ...]."""
    return values.reshape(-1, *[1] * (like.ndim - 1))


def noisy(target: Tensor, noise: Tensor, sigma: Tensor) -> Tensor:
    """Return the point on the path at noise level `sigma` [B] in [0, 1]; `target` and `noise` are [B, ...]."""
    sigma = per_sample(sigma, target).to(target.dtype)
    return (1 - sigma) * target + sigma * noise


def velocity_target(target: Tensor, noise: Tensor) -> Tensor:
    """Return the regression target of the network, which is the same at every sigma."""
    return noise - target


def shifted(sigma: Tensor, shift: float) -> Tensor:
    """Shift sigmas towards noise, for long sequences: shift s / (1 + (shift - 1) s) (Esser et al. 2024, eq. 23)."""
    return shift * sigma / (1 + (shift - 1) * sigma)


def sample_sigma(n: int, shift: float, generator: torch.Generator) -> Tensor:
    """Draw `n` training sigmas in (0, 1): logit-normal, then shifted. float32 [n] on the generator's device."""
    normal = torch.randn(n, generator=generator, device=generator.device)
    return shifted(torch.sigmoid(normal), shift)


def sigma_at(quantiles: Tensor, shift: float) -> Tensor:
    """Return sigmas at the given quantiles, in (0, 1), of the distribution of `sample_sigma`, in the same shape."""
    return shifted(torch.sigmoid(torch.special.ndtri(quantiles)), shift)


def flow_loss(velocity: Tensor, target: Tensor, noise: Tensor, weight: Tensor | None = None) -> Tensor:
    """Return the mean squared velocity error of each sample, so that the caller can weight samples. [B, ...] -> [B].

    `weight`: factors for the squared errors, broadcast to their shape.
    """
    error = (velocity.float() - velocity_target(target, noise).float()).square()
    return (error if weight is None else weight * error).flatten(1).mean(1)


def scheduler_shift(base: Path) -> float:
    """Return the scheduler shift of a base model in the diffusers layout. Raises `ValueError` if it has none."""
    config = part_config(base, "scheduler")
    if (shift := config.get("shift", config.get("flow_shift"))) is None:
        raise ValueError(
            f"the scheduler of {base} has no shift: choose a flow-matching base model, or give the shift in the config"
        )
    return float(shift)
