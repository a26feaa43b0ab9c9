"""Convert Unreal's axes, as used by BEDLAM and BEDLAM2, to ours (format notes of the data sets, section "Axes").

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
    """Convert Unreal points [..., 3] in cm to cv-world points [..., 3] in metres."""
    x, y, z = np.moveaxis(np.asarray(unreal, np.float64), -1, 0)
    return np.stack([y, -z, x], axis=-1) / 100


def world_to_camera(position: ArrayLike, yaw_pitch_roll: ArrayLike) -> Array:
    """Convert camera poses, [T, 3] in cm and [T, 3] in degrees, to `[R | t]` [T, 3, 4] with OpenCV axes in metres.

    `R = Rz(-roll) Rx(-pitch) Ry(-yaw)`.
    """
    yaw, pitch, roll = np.asarray(yaw_pitch_roll, np.float64).T
    angles = np.stack([-roll, -pitch, -yaw], axis=-1)  # [T, 3]
    rotation = Rotation.from_euler("ZXY", angles, degrees=True).as_matrix()  # [T, 3, 3], Rz @ Rx @ Ry
    translation = -np.einsum("tij,tj->ti", rotation, point(position))
    return np.concatenate([rotation, translation[..., None]], axis=-1)


def world_from_body(yaw: float) -> Array:
    """Return the rotation [3, 3] from SMPL-X axes (Y up, facing +Z) to the cv-world; yaw 0 faces Unreal's +Y."""
    turn = Rotation.from_euler("Y", yaw - 90, degrees=True).as_matrix()
    return turn @ np.diag([1.0, -1.0, -1.0])
