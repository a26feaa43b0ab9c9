"""The target's camera in driving inputs: move poses into it, or choose it."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from opendimo.model.batch import Driving

AHEAD = 3.0
"""Distance in metres at which a person is assumed whose pose is unknown."""


def in_target(driving: Driving) -> Driving:
    """Return driving inputs with `joints_3d` and `K` of the target's camera; poses are invalid where it is unknown."""
    rotation, translation = driving.target_from_driver[..., :3], driving.target_from_driver[..., 3]
    joints = torch.einsum("btij,btnj->btni", rotation, driving.joints_3d) + translation[:, :, None]
    known = driving.target_ok
    return replace(
        driving,
        joints_3d=joints,
        K=driving.target_K,
        pose_ok=driving.pose_ok & known,
        hands_pose_ok=driving.hands_pose_ok & known[..., None],
    )


def in_view_of_driver(driving: Driving) -> Driving:
    """Return driving inputs whose targets have the driver's camera where theirs is unknown."""
    still = torch.eye(3, 4, device=driving.K.device).expand_as(driving.target_from_driver)
    known = driving.target_ok[..., None, None]
    return replace(
        driving,
        target_from_driver=torch.where(known, driving.target_from_driver, still),
        target_K=torch.where(known, driving.target_K, driving.K),
        target_ok=torch.ones_like(driving.target_ok),
    )


def seen_by(driving: Driving, cameras: Sequence[NDArray[np.floating]]) -> Driving:
    """Repeat one sample of driving inputs [1, T, ...] for V targets, seen by `cameras`, each [T or 1, 3, 4].

    Cameras map the driver's camera coordinates to the target's, in metres; intrinsics are the driver's. Returns
    [V, T, ...].
    """
    frames = driving.body.shape[1]
    views = driving.map(lambda x: x.expand(len(cameras), *x.shape[1:]))
    moved = torch.stack([torch.from_numpy(camera).to(driving.K).expand(frames, 3, 4) for camera in cameras])
    return replace(views, target_from_driver=moved, target_K=views.K, target_ok=torch.ones_like(views.target_ok))


def person_at(joints: NDArray[np.floating], valid: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the mean position [3] of the pelvis, of `joints` [T, 52, 3]; `AHEAD` of the camera if none is valid."""
    if not valid.any():
        return np.array([0.0, 0.0, AHEAD])
    mean: NDArray[np.float64] = joints[valid, 0].astype(np.float64).mean(axis=0)
    return mean
