"""Configuration of the body fit. Does not import torch, so that commands which only plan work start fast."""

from dataclasses import dataclass


@dataclass(frozen=True)
class FitConfig:
    """Standard deviations of the terms of the objective, and the number of iterations.

    `pixels`: of a 2-D landmark, metres at the person's depth; `shape`: of the landmark model's 3-D body, metres;
    `points`: of triangulated points, metres; `hands`: factor on these for hand points; `hand_shape`: of the landmark
    model's 3-D hand, metres; `acceleration`: of points, m/s^2; `turning`: of joint angles, rad/s^2; `betas`: of shape
    coefficients. `robust`: scale of the robust loss; beyond this many standard deviations the gradient of a point no
    longer grows. `iterations`: maximum number of L-BFGS iterations.
    """

    pixels: float = 0.02
    shape: float = 0.06
    points: float = 0.02
    hands: float = 0.6
    hand_shape: float = 0.012
    acceleration: float = 40.0
    turning: float = 100.0
    betas: float = 1.0
    robust: float = 2.0
    iterations: int = 50
