"""What a fit minimises, and the coordinates it does so in."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d
from torch import Tensor

from model.body.load import Body
from model.body.rotations import axis_angle_to_matrix, matrix_to_axis_angle
from model.body.skeleton import JOINTS
from pipelines.poses.crops import fill
from pipelines.poses.initial import first_guess
from pipelines.poses.kinematics import Posed, forward
from pipelines.poses.limits import limits, usual
from pipelines.poses.mapping import GROUP, INDEX
from pipelines.poses.metric import SAMPLES, Metric, jacobian, metric
from pipelines.poses.motion import Motion
from pipelines.poses.placement import NEAR, place_by_points, place_by_rays, rays

Array = NDArray[np.floating]
BETAS = 10
GUESS_SMOOTHING = 0.05
"""Standard deviation of the filter over the points that the first guess looks at, seconds."""
OF_HAND = torch.tensor(GROUP > 0)
IN_GROUP = torch.tensor(np.stack([g == GROUP for g in range(3)]), dtype=torch.float32)  # [3, P]


@dataclass(frozen=True)
class FitConfig:
    """Standard deviations of what is fitted, and how long.

    `pixels`: of a landmark, metres at the person's depth; `shape`: of the landmark model's own 3-D body, metres; `points`:
    of triangulated points, metres; `hands`: of hand points over those of the body; `hand_shape`: of the landmark
    model's own 3-D hand, metres; `acceleration`: of points, m/s^2; `turning`: of joint angles, rad/s^2; `betas`: of shape
    coefficients. Beyond `robust` standard deviations the pull of a point no longer grows. `iterations`: of L-BFGS.
    """

    pixels: float = 0.02
    shape: float = 0.03
    points: float = 0.02
    hands: float = 0.6
    hand_shape: float = 0.012
    acceleration: float = 25.0
    turning: float = 200.0
    betas: float = 1.0
    robust: float = 2.0
    iterations: int = 40


@dataclass(frozen=True)
class Target:
    """What a clip's T frames show, in a fit frame: the world, or the camera where that is unknown.

    `pixels` [T, P, 3] (x, y, confidence) of a pinhole camera with `K` [T, 3, 3] and `camera_from_fit` [T, 3, 4];
    `shape` [T, P, 4]: points about an arbitrary origin per frame and group, turned to the fit frame (hands: unit = palm);
    `points` [T, P, 4]: points in the fit frame, metres. The last number is the confidence. What is None is not used.
    """

    fps: float
    pixels: Array | None = None
    K: Array | None = None
    camera_from_fit: Array | None = None
    shape: Array | None = None
    points: Array | None = None


class Objective:
    """The first guess, the variables about it (each in units of its typical step), and the objective."""

    def __init__(self, body: Body, target: Target, config: FitConfig) -> None:
        self.config, self.fps = config, target.fps
        zero = torch.zeros(BETAS)
        self.rest0 = body.rest_joints(zero).detach()
        # rest joints are linear in the shape
        unit = [body.rest_joints(row).detach() - self.rest0 for row in torch.eye(BETAS)]
        self.rest_of_betas = torch.stack(unit, -1)  # [52, 3, B]
        self.pixels, self.shape, self.points = (_tensor(a) for a in (target.pixels, target.shape, target.points))
        if self.shape is not None:
            palm = (self.rest0[INDEX["left_middle1"]] - self.rest0[INDEX["left_wrist"]]).norm()
            self.shape[..., :3] *= torch.where(OF_HAND, palm, 1.0)[:, None]

        aim, known = _aim(target)
        still = torch.eye(3).expand(1, len(JOINTS), 3, 3)
        rest_points = forward(self.rest0, still, self.rest0[None, 0]).points[0].double().numpy()
        local = torch.tensor(first_guess(rest_points, aim, known), dtype=torch.float32)
        self.root, self.angles = local[:, 0], matrix_to_axis_angle(local[:, 1:])  # [T, 3, 3], [T, 51, 3]
        self.frames = len(local)
        guess = forward(self.rest0, local, torch.zeros(self.frames, 3)).points
        if self.points is not None:
            self.pelvis = place_by_points(guess, self.points[..., :3], self.points[..., 3] * ~OF_HAND)
        if self.pixels is not None:
            K, self.camera = _tensor(target.K), _tensor(target.camera_from_fit)
            self.rays = rays(self.pixels, K)  # [T, P, 2]
            if self.points is None:
                self.pelvis = place_by_rays(guess, self.rays, self.pixels[..., 2] * ~OF_HAND, self.camera)
            in_camera = (self.camera[:, :, :3] @ self.pelvis[..., None])[..., 0] + self.camera[:, :, 3]
            self.depth = in_camera[:, 2].clamp(min=NEAR)[:, None, None]  # what a ray's slope measures at the person
        self.usual = usual()
        self.least, self.most = limits()
        self.metric, self.betas_step = self._metric(local)
        self.size = self.frames * len(self.metric.modes) + BETAS

    def _metric(self, local: Tensor) -> tuple[Metric, float]:
        """The metric at the first guess, and the typical step of the betas."""
        c, some = self.config, torch.linspace(0, self.frames - 1, min(SAMPLES, self.frames)).long()
        posed = forward(self.rest0, local[some], self.pelvis[some])
        J = jacobian(posed)  # [S, P, 3, n]
        weight = torch.zeros(*J.shape[:2], 3, 3)
        finer = torch.where(OF_HAND, c.hands, 1.0)
        if self.pixels is not None:
            sight = torch.linalg.solve(  # unit vectors from the camera to the points, in the fit frame
                self.camera[some, None, :, :3],
                (posed.points @ self.camera[some, :, :3].mT + self.camera[some, None, :, 3])[..., None],
            )[..., 0]
            sight = torch.nn.functional.normalize(sight, dim=-1)
            across = torch.eye(3) - sight[..., :, None] * sight[..., None, :]
            weight += (self.pixels[some, :, 2] / (c.pixels * finer) ** 2)[..., None, None] * across
        if self.points is not None:
            weight += (self.points[some, :, 3] / (c.points * finer) ** 2)[..., None, None] * torch.eye(3)
        data = torch.einsum("tpin,tpij,tpjm->nm", J, weight, J) / len(some)
        if self.shape is not None:
            sigma = torch.where(OF_HAND, c.hand_shape, c.shape)
            held = J * (self.shape[some, :, 3] / sigma**2)[..., None, None]
            data[3:, 3:] += torch.einsum("tpin,tpim->nm", held[..., 3:], J[..., 3:]) / len(some)
        data += torch.diag(torch.cat([torch.zeros(6), (self.usual**-2).expand(-1, 3).flatten()]))
        rate = self.fps**2
        smooth = (rate / c.acceleration) ** 2 * torch.einsum("tpin,tpim->nm", J, J) / len(some)
        smooth += torch.diag(torch.cat([torch.zeros(6), torch.full((153,), (rate / c.turning) ** 2)]))
        stiff = self.rest_of_betas.square().sum((0, 1)).max() / c.pixels**2 + c.betas**-2
        return metric(data, smooth, self.frames), float((self.frames * stiff) ** -0.5)

    def pose(self, variables: Tensor) -> tuple[Posed, Tensor, Tensor, Tensor]:
        """Variables -> posed points, local rotations [T, 52, 3, 3], angles [T, 51, 3], betas [B]."""
        moves = self.metric.variables(variables[:-BETAS].reshape(self.frames, -1))
        pelvis, turn, bend = moves[:, :3], moves[:, 3:6], moves[:, 6:].reshape(self.frames, -1, 3)
        betas = variables[-BETAS:] * self.betas_step
        angles = self.angles + bend
        root = self.root @ axis_angle_to_matrix(turn)
        local = torch.cat([root[:, None], axis_angle_to_matrix(angles)], 1)
        return forward(self.rest0 + self.rest_of_betas @ betas, local, self.pelvis + pelvis), local, angles, betas

    def loss(self, variables: Tensor) -> Tensor:
        """The objective: half a sum of squares, in standard deviations."""
        posed, local, angles, betas = self.pose(variables)
        return self._data(posed.points) + self._smoothness(posed.points, local) + self._prior(angles, betas)

    def _data(self, points: Tensor) -> Tensor:
        c, finer = self.config, torch.where(OF_HAND, self.config.hands, 1.0)
        loss = points.new_zeros(())
        if self.pixels is not None:
            in_camera = points @ self.camera[:, :, :3].mT + self.camera[:, None, :, 3]
            slope = in_camera[..., :2] / in_camera[..., 2:].clamp(min=NEAR)
            off = ((slope - self.rays) * self.depth).square().sum(-1) / (c.pixels * finer) ** 2
            loss = loss + (self.pixels[..., 2] * _robust(off, c.robust)).sum()
        if self.points is not None:
            off = (points - self.points[..., :3]).square().sum(-1) / (c.points * finer) ** 2
            loss = loss + (self.points[..., 3] * _robust(off, c.robust)).sum()
        if self.shape is not None:
            difference, weight = points - self.shape[..., :3], self.shape[..., 3]
            by_group = IN_GROUP * weight[:, None]  # [T, 3, P]
            mean = (by_group @ difference) / by_group.sum(-1, keepdim=True).clamp(min=1e-6)  # [T, 3 groups, 3]
            sigma = torch.where(OF_HAND, c.hand_shape, c.shape)
            off = (difference - mean[:, GROUP]).square().sum(-1) / sigma**2
            loss = loss + (weight * _robust(off, c.robust)).sum()
        return loss / 2

    def _smoothness(self, points: Tensor, local: Tensor) -> Tensor:
        if self.frames < 3:
            return points.new_zeros(())
        rate = self.fps**2
        acceleration = points[2:] - 2 * points[1:-1] + points[:-2]
        turning = (local[2:, 1:] - 2 * local[1:-1, 1:] + local[:-2, 1:]) / 2**0.5  # its length is an angle
        straight = (acceleration * (rate / self.config.acceleration)).square().sum()
        return (straight + (turning * (rate / self.config.turning)).square().sum()) / 2

    def _prior(self, angles: Tensor, betas: Tensor) -> Tensor:
        beyond = (angles - self.most).clamp(min=0) + (self.least - angles).clamp(min=0)
        unusual = (angles / self.usual).square().sum() + (beyond / 0.05).square().sum()
        # one shape for all frames, whose errors are not independent: its prior counts once per frame
        return (unusual + self.frames * (betas / self.config.betas).square().sum()) / 2

    def motion(self, variables: Tensor) -> Motion:
        """The motion that `variables` stand for."""
        posed, local, angles, betas = self.pose(variables)
        pelvis = self.rest0[0] + self.rest_of_betas[0] @ betas
        return Motion(
            matrix_to_axis_angle(local[:, 0]).numpy(),
            angles[:, :21].numpy(),
            angles[:, 21:].reshape(-1, 2, 15, 3).numpy(),
            (posed.joints[:, 0] - pelvis).numpy(),  # SMPL-X turns about the rest pelvis
            betas.numpy(),
            posed.joints.numpy(),
        )


def _aim(target: Target) -> tuple[Array, NDArray[np.bool_]]:
    """Where points were seen, gaps filled over time [T, P, 3], and which were ever seen [P]."""
    seen = target.points if target.points is not None else target.shape
    if seen is None:
        raise ValueError("a fit needs points in space: triangulated, or the landmark model's own shape")
    aim, known = np.array(seen[..., :3], np.float64), (seen[..., 3] > 0).any(0)
    if not known[GROUP == 0].any():
        raise ValueError("no body was observed in any frame")
    aim[seen[..., 3] <= 0] = np.nan
    for point in np.flatnonzero(known):
        aim[:, point] = gaussian_filter1d(fill(aim[:, point]), GUESS_SMOOTHING * target.fps, axis=0, mode="nearest")
    return np.nan_to_num(aim), known


def _robust(squares: Tensor, scale: float) -> Tensor:
    """Pseudo-Huber: squares that grow only linearly beyond `scale`."""
    return 2 * scale**2 * ((1 + squares / scale**2).sqrt() - 1)


def _tensor(array: Array | None) -> Tensor | None:
    return None if array is None else torch.tensor(np.asarray(array), dtype=torch.float32)
