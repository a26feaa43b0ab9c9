"""SMPL-X parameters over time."""

from dataclasses import dataclass, replace

import numpy as np
import roma
import torch
from numpy.typing import NDArray
from scipy.signal import savgol_filter
from scipy.spatial.transform import Rotation

from opendimo.model.body.load import Body
from opendimo.model.body.skeleton import JOINTS
from opendimo.pipelines.poses.between import linear_at, rotations_at
from opendimo.pipelines.poses.kinematics import forward

Array = NDArray[np.floating]
WINDOW = 0.3
"""Width of the smoothing filter, seconds."""


@dataclass(frozen=True)
class Motion:
    """SMPL-X parameters of T frames: `global_orient` [T, 3], `body_pose` [T, 21, 3], `hand_pose` [T, 2, 15, 3]
    axis-angle, `transl` [T, 3] metres, `betas` [B]; and the resulting `joints` [T, 52, 3]."""

    global_orient: Array
    body_pose: Array
    hand_pose: Array
    transl: Array
    betas: Array
    joints: Array


def points_of(body: Body, motion: Motion) -> Array:
    """Return the joints and markers [T, P, 3] of a motion."""
    angles = [motion.global_orient[:, None], motion.body_pose, motion.hand_pose.reshape(len(motion.transl), 30, 3)]
    local = roma.rotvec_to_rotmat(torch.tensor(np.concatenate(angles, 1), dtype=torch.float32))
    with torch.no_grad():
        rest = body.rest_joints(torch.tensor(motion.betas, dtype=torch.float32))
        pelvis = torch.tensor(motion.transl, dtype=torch.float32) + rest[0]
        points: Array = forward(rest, local, pelvis).points.numpy()
    return points


def smoothed(body: Body, motion: Motion, fps: float) -> Motion:
    """Return the motion after a Savitzky-Golay filter over rotations and the path of the root.

    Unlike a mean over the same frames, fitted parabolas keep what people do on purpose: of a swing of the hand at three
    hertz, four fifths of the amplitude.
    """
    frames = max(5, 2 * round(WINDOW * fps / 2) + 1)

    def turned(axis_angle: Array) -> Array:
        quaternions = Rotation.from_rotvec(axis_angle.reshape(-1, 3)).as_quat().reshape(*axis_angle.shape[:-1], 4)
        same = np.where((quaternions[1:] * quaternions[:-1]).sum(-1) < 0, -1.0, 1.0).cumprod(0)
        quaternions[1:] *= same[..., None]  # q and -q are the same rotation
        filtered = savgol_filter(quaternions, frames, 2, axis=0, mode="nearest")
        return np.asarray(Rotation.from_quat(filtered.reshape(-1, 4)).as_rotvec().reshape(axis_angle.shape))

    steady = replace(
        motion,
        global_orient=turned(motion.global_orient),
        body_pose=turned(motion.body_pose),
        hand_pose=turned(motion.hand_pose),
        transl=savgol_filter(motion.transl, frames, 2, axis=0, mode="nearest"),
    )
    return replace(steady, joints=points_of(body, steady)[:, : len(JOINTS)])


def motion_at(body: Body, motion: Motion, times: Array) -> Motion:
    """Resample a motion at `times` [N], in frames from its first: rotations with slerp, the root position linearly."""
    rest_pelvis = motion.joints[0, 0] - motion.transl[0]
    resampled = replace(
        motion,
        global_orient=rotations_at(motion.global_orient, times),
        body_pose=rotations_at(motion.body_pose, times),
        hand_pose=rotations_at(motion.hand_pose, times),
        transl=linear_at(motion.joints[:, 0], times) - rest_pelvis,
    )
    return replace(resampled, joints=points_of(body, resampled)[:, : len(JOINTS)])
