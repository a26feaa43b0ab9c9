"""SMPL-X parameters over time."""

from dataclasses import dataclass, replace

import numpy as np
import roma
import torch
from numpy.typing import NDArray

from opendimo.model.body.load import Body
from opendimo.model.body.skeleton import JOINTS
from opendimo.pipelines.poses.between import linear_at, rotations_at
from opendimo.pipelines.poses.kinematics import forward

Array = NDArray[np.floating]


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
