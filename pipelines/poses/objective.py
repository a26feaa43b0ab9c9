"""The objective of the fit, its initial pose and its preconditioned variables."""

from dataclasses import dataclass

import numpy as np
import roma
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d
from torch import Tensor

from opendimo.model.body.load import Body
from opendimo.model.body.skeleton import JOINTS
from opendimo.pipelines.poses.crops import fill
from opendimo.pipelines.poses.fit_config import FitConfig
from opendimo.pipelines.poses.initial import first_guess
from opendimo.pipelines.poses.kinematics import Posed, forward
from opendimo.pipelines.poses.limits import limits, usual
from opendimo.pipelines.poses.mapping import GROUP, INDEX
from opendimo.pipelines.poses.metric import SAMPLES, Metric, jacobian, metric
from opendimo.pipelines.poses.motion import Motion
from opendimo.pipelines.poses.placement import NEAR, place_by_points, place_by_rays, rays
from opendimo.pipelines.poses.terms import OF_HAND, AtPoints, InShape, OnRays, Term

Array = NDArray[np.floating]
BETAS = 10
GUESS_SMOOTHING = 0.05
"""Standard deviation of the filter over the points from which the initial pose is computed, seconds."""


@dataclass(frozen=True)
class Seen:
    """Observations of one camera: undistorted `pixels` [T, P, 3] (x, y, confidence), `K` [T, 3, 3], and
    `camera_from_fit` [T, 3, 4]."""

    pixels: Array
    K: Array
    camera_from_fit: Array


@dataclass(frozen=True)
class Target:
    """Observations of the T frames of a clip, in the fit frame: the world, or the camera frame if the world is unknown.

    `views`: observations per camera. `shape` [T, P, 4]: 3-D points about an arbitrary origin per frame and group, in
    the axes of the fit frame (hands: in units of the palm). `points` [T, P, 4]: points in the fit frame, metres; if
    there are views, they only initialise the fit. The last number is the confidence.
    """

    fps: float
    views: tuple[Seen, ...] = ()
    shape: Array | None = None
    points: Array | None = None


class Objective:
    """The initial pose, the preconditioned variables relative to it, and the loss."""

    def __init__(self, body: Body, target: Target, config: FitConfig) -> None:
        self.config, self.fps = config, target.fps
        self.usual = usual()
        self.least, self.most = limits()
        # rest joints are linear in the shape
        self.rest0 = body.rest_joints(torch.zeros(BETAS)).detach()
        unit = [body.rest_joints(row).detach() - self.rest0 for row in torch.eye(BETAS)]
        self.rest_of_betas = torch.stack(unit, -1)  # [52, 3, B]

        aim, known = _aim(target)
        upright = torch.eye(3).expand(1, len(JOINTS), 3, 3)
        rest_points = forward(self.rest0, upright, self.rest0[None, 0]).points[0].double().numpy()
        local = torch.tensor(first_guess(rest_points, aim, known), dtype=torch.float32)
        self.frames = len(local)
        self.root, self.angles = local[:, 0], roma.rotmat_to_rotvec(local[:, 1:])  # [T, 3, 3], [T, 51, 3]
        self.pelvis, self.terms = self._observed(target, forward(self.rest0, local, torch.zeros(self.frames, 3)).points)
        self.metric = self._metric(local)
        self.size = self.frames * len(self.metric.modes) + BETAS
        stiff = self.rest_of_betas.square().sum((0, 1)).max() / config.pixels**2 + config.betas**-2
        self.betas_step = float((self.frames * stiff) ** -0.5)

    def _observed(self, target: Target, guess: Tensor) -> tuple[Tensor, list[Term]]:
        """Return the pelvis positions [T, 3] that best fit `guess` [T, P, 3] (pelvis at the origin), and data terms."""
        c, hand_factor = self.config, torch.where(OF_HAND, self.config.hands, 1.0)
        terms: list[Term] = []
        pelvis = None
        if target.points is not None:
            observed, confidence = _split(target.points)
            pelvis = place_by_points(guess, observed, confidence * ~OF_HAND)
            if not target.views:
                terms.append(AtPoints(observed, confidence, c.points * hand_factor, c.robust))
        for view in target.views:
            observed, confidence = _split(view.pixels)
            along, camera = rays(observed, _tensor(view.K)), _tensor(view.camera_from_fit)
            if pelvis is None:
                pelvis = place_by_rays(guess, along, confidence * ~OF_HAND, camera)
            depth = (camera[:, 2, :3] * pelvis).sum(1) + camera[:, 2, 3]
            terms.append(
                OnRays(
                    along, confidence, camera, depth.clamp(min=NEAR)[:, None, None], c.pixels * hand_factor, c.robust
                )
            )
        if target.shape is not None:
            observed, confidence = _split(target.shape)
            palm = (self.rest0[INDEX["left_middle1"]] - self.rest0[INDEX["left_wrist"]]).norm()
            observed = observed * torch.where(OF_HAND, palm, 1.0)[:, None]
            terms.append(InShape(observed, confidence, torch.where(OF_HAND, c.hand_shape, c.shape), c.robust))
        if pelvis is None:
            raise ValueError("the fit cannot place the body: pass pixels of a camera, or points in space")
        return pelvis, terms

    def _metric(self, local: Tensor) -> Metric:
        """Return the preconditioner at the initial pose."""
        sampled = torch.linspace(0, self.frames - 1, min(SAMPLES, self.frames)).long()
        posed = forward(self.rest0, local[sampled], self.pelvis[sampled])
        J = jacobian(posed)  # [S, P, 3, n]
        hold = torch.stack([term.hold(posed.points, sampled) for term in self.terms]).sum(0)  # [S, P, 3, 3]
        free = torch.zeros(6)
        data = torch.einsum("tpin,tpij,tpjm->nm", J, hold, J) / len(sampled)
        data += torch.diag(torch.cat([free, (self.usual**-2).expand(-1, 3).flatten()]))
        rate = self.fps**2
        smooth = (rate / self.config.acceleration) ** 2 * torch.einsum("tpin,tpim->nm", J, J) / len(sampled)
        turning = torch.full((len(data) - len(free),), (rate / self.config.turning) ** 2)
        return metric(data, smooth + torch.diag(torch.cat([free, turning])), self.frames)

    def pose(self, variables: Tensor) -> tuple[Posed, Tensor, Tensor, Tensor]:
        """Return posed points, local rotations [T, 52, 3, 3], angles [T, 51, 3] and betas [B] for `variables`."""
        moves = self.metric.variables(variables[:-BETAS].reshape(self.frames, -1))
        pelvis, turn, bend = moves[:, :3], moves[:, 3:6], moves[:, 6:].reshape(self.frames, -1, 3)
        betas = variables[-BETAS:] * self.betas_step
        angles = self.angles + bend
        root = self.root @ roma.rotvec_to_rotmat(turn)
        local = torch.cat([root[:, None], roma.rotvec_to_rotmat(angles)], 1)
        return forward(self.rest0 + self.rest_of_betas @ betas, local, self.pelvis + pelvis), local, angles, betas

    def loss(self, variables: Tensor) -> Tensor:
        """Return the objective: half a sum of (robust) squared residuals, in standard deviations."""
        posed, local, angles, betas = self.pose(variables)
        data = torch.stack([term.loss(posed.points) for term in self.terms]).sum()
        return data + self._smoothness(posed.points, local) + self._prior(angles, betas)

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
        # errors of the frames are not independent, so the prior of the one shape is weighted by the number of frames
        return (unusual + self.frames * (betas / self.config.betas).square().sum()) / 2

    def motion(self, variables: Tensor) -> Motion:
        """Convert `variables` to a motion."""
        posed, local, angles, betas = self.pose(variables)
        pelvis = self.rest0[0] + self.rest_of_betas[0] @ betas
        return Motion(
            roma.rotmat_to_rotvec(local[:, 0]).numpy(),
            angles[:, :21].numpy(),
            angles[:, 21:].reshape(-1, 2, 15, 3).numpy(),
            (posed.joints[:, 0] - pelvis).numpy(),  # SMPL-X rotates about the rest pelvis
            betas.numpy(),
            posed.joints.numpy(),
        )


def _aim(target: Target) -> tuple[Array, NDArray[np.bool_]]:
    """Return the observed 3-D points with gaps filled over time [T, P, 3], and which points were ever observed [P]."""
    observed = target.points if target.points is not None else target.shape
    if observed is None:
        raise ValueError("the fit needs 3-D points: pass triangulated `points`, or the landmark model's `shape`")
    aim, known = np.array(observed[..., :3], np.float64), np.any(observed[..., 3] > 0, axis=0)
    if not known[GROUP == 0].any():
        raise ValueError("no body was observed in any frame")
    aim[observed[..., 3] <= 0] = np.nan
    for point in np.flatnonzero(known):
        aim[:, point] = gaussian_filter1d(fill(aim[:, point]), GUESS_SMOOTHING * target.fps, axis=0, mode="nearest")
    return np.nan_to_num(aim), known


def _split(array: Array) -> tuple[Tensor, Tensor]:
    """Split [T, P, n + 1] into coordinates [T, P, n] and confidence [T, P]."""
    tensor = _tensor(array)
    return tensor[..., :-1], tensor[..., -1]


def _tensor(array: Array) -> Tensor:
    return torch.tensor(np.asarray(array), dtype=torch.float32)
