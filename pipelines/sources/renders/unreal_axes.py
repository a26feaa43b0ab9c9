"""Unreal's axes to ours, as BEDLAM and BEDLAM2 use them (the format notes of the data sets, section "Axes").

Unreal: left-handed, centimetres, X forward, Y right, Z up; rotations in degrees, intrinsic yaw (about Z), pitch (about
the new Y), roll (about the new X); +yaw turns right, +pitch looks up, +roll turns the camera clockwise; a camera
without rotation looks along +X. Ours ("cv-world"): right-handed, metres, x right, y down, z forward: gravity is +y.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.transform import Rotation

Array = NDArray[np.float64]
GRAVITY_DOWN = (0.0, 1.0, 0.0)


def point(unreal: ArrayLike) -> Array:
    """Unreal points [..., 3] in cm -> cv-world points [..., 3] in metres."""
    x, y, z = np.moveaxis(np.asarray(unreal, np.float64), -1, 0)
    return np.stack([y, -z, x], axis=-1) / 100


def world_to_camera(position: ArrayLike, yaw_pitch_roll: ArrayLike) -> Array:
    """Camera poses [T, 3] cm and [T, 3] degrees -> `[R | t]` [T, 3, 4], OpenCV axes, metres.

    `R = Rz(-roll) Rx(-pitch) Ry(-yaw)`.
    """
    yaw, pitch, roll = np.asarray(yaw_pitch_roll, np.float64).T
    angles = np.stack([-roll, -pitch, -yaw], axis=-1)  # [T, 3]
    rotation = Rotation.from_euler("ZXY", angles, degrees=True).as_matrix()  # [T, 3, 3], Rz @ Rx @ Ry
    translation = -np.einsum("tij,tj->ti", rotation, point(position))
    return np.concatenate([rotation, translation[..., None]], axis=-1)


def world_from_body(yaw: float) -> Array:
    """Rotation [3, 3] of SMPL-X axes (Y up, faces +Z) into the cv-world: a body with yaw 0 faces Unreal's +Y."""
    turn = Rotation.from_euler("Y", yaw - 90, degrees=True).as_matrix()
    return turn @ np.diag([1.0, -1.0, -1.0])
