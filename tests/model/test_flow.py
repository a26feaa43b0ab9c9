from typing import Any

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, UniPCMultistepScheduler

from opendimo.model import flow


def pair(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    return torch.randn(3, 4, 2, 5, 5, generator=g), torch.randn(3, 4, 2, 5, 5, generator=g)


def test_the_path_starts_at_data_and_ends_at_noise() -> None:
    x0, noise = pair()
    assert torch.equal(flow.noisy(x0, noise, torch.zeros(3)), x0)
    assert torch.equal(flow.noisy(x0, noise, torch.ones(3)), noise)


def test_velocity_is_the_derivative_of_the_path() -> None:
    x0, noise = (x.double() for x in pair())
    sigma = torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64)
    slope = (flow.noisy(x0, noise, sigma + 1e-4) - flow.noisy(x0, noise, sigma - 1e-4)) / 2e-4
    torch.testing.assert_close(slope, flow.velocity_target(x0, noise))


def test_data_is_the_noisy_sample_less_sigma_times_velocity() -> None:
    x0, noise = pair()
    sigma = torch.tensor([0.1, 0.5, 0.9])
    x = flow.noisy(x0, noise, sigma) - sigma.view(3, 1, 1, 1, 1) * flow.velocity_target(x0, noise)
    torch.testing.assert_close(x, x0)


@pytest.mark.parametrize("shift", [1.0, 5.0])
def test_euler_with_an_oracle_recovers_the_data(shift: float) -> None:
    x0, noise = pair()
    scheduler = FlowMatchEulerDiscreteScheduler(shift=shift)
    scheduler.set_timesteps(20)
    x = noise
    for t, sigma in zip(scheduler.timesteps, scheduler.sigmas[:-1], strict=True):
        x = scheduler.step((x - x0) / sigma, t, x, return_dict=False)[0]
    torch.testing.assert_close(x, x0, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "scheduler",
    [
        FlowMatchEulerDiscreteScheduler(shift=3.0),
        UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=5.0),  # TI2V-5B's
    ],
)
def test_schedulers_of_diffusers_walk_the_same_path(scheduler: Any) -> None:
    x0, noise = pair()
    scheduler.set_timesteps(20)
    x = noise
    for t in scheduler.timesteps:
        x = scheduler.step((x - x0) / (t / flow.TIMESTEPS), t, x, return_dict=False)[0]
    torch.testing.assert_close(x, x0, rtol=0, atol=1e-2)  # the oracle uses the rounded timestep


def test_shift_moves_towards_noise() -> None:
    sigma = torch.tensor([0.0, 0.5, 1.0])
    torch.testing.assert_close(flow.shifted(sigma, 3.0), torch.tensor([0.0, 0.75, 1.0]))


def test_training_sigmas_follow_seed_and_shift() -> None:
    def draw(shift: float) -> torch.Tensor:
        return flow.sample_sigma(4001, shift, torch.Generator().manual_seed(0))

    assert torch.equal(draw(1.0), draw(1.0))
    assert draw(1.0).min() > 0 and draw(5.0).max() < 1
    assert abs(draw(1.0).median() - 0.5) < 0.02
    assert abs(draw(3.0).median() - 0.75) < 0.02


def test_quantiles_are_those_of_the_sigmas_drawn() -> None:
    drawn = flow.sample_sigma(200_000, 3.0, torch.Generator().manual_seed(0))
    shares = torch.tensor([0.05, 0.25, 0.5, 0.9])
    torch.testing.assert_close(flow.sigma_at(shares, 3.0), drawn.quantile(shares), atol=3e-3, rtol=0)


def test_the_loss_is_a_mean_per_sample() -> None:
    x0, noise = pair()
    velocity = flow.velocity_target(x0, noise)
    velocity[1] += 2
    torch.testing.assert_close(flow.flow_loss(velocity, x0, noise), torch.tensor([0.0, 4.0, 0.0]))


def test_a_weight_of_places_weighs_squared_errors() -> None:
    x0, noise = pair()
    velocity, weight = flow.velocity_target(x0, noise) + 2, torch.zeros(3, 1, 2, 5, 5)
    weight[1, :, 0], weight[2] = 3, 0.5
    torch.testing.assert_close(flow.flow_loss(velocity, x0, noise, weight), torch.tensor([0.0, 6.0, 2.0]))
