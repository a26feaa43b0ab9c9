"""How a body is fitted. Without torch, so that who only plans work starts at once."""

from dataclasses import dataclass


@dataclass(frozen=True)
class FitConfig:
    """Standard deviations of what is fitted, and how long.

    `pixels`: of a landmark, metres at the person's depth; `shape`: of the landmark model's own 3-D body, metres;
    `points`: of triangulated points, metres; `hands`: of hand points over those of the body; `hand_shape`: of the
    landmark model's own 3-D hand, metres; `acceleration`: of points, m/s^2; `turning`: of joint angles, rad/s^2;
    `betas`: of shape coefficients. Beyond `robust` standard deviations the pull of a point no longer grows.
    `iterations`: of L-BFGS.
    """

    pixels: float = 0.02
    shape: float = 0.03
    points: float = 0.02
    hands: float = 0.6
    hand_shape: float = 0.012
    acceleration: float = 40.0
    turning: float = 100.0
    betas: float = 1.0
    robust: float = 2.0
    iterations: int = 40
