"""Worlds with axes and units that a manifest declares, to ours.

Which of a file's axes points forward, right and up says everything, its handedness too: Unreal is +x +y +z
(left-handed), Blender +y +x +z, Unity +z +x +y (left-handed), OpenCV +z +x -y. Ours is OpenCV's, in metres.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.transform import Rotation

from opendimo.pipelines.sources.renders import unreal_axes

Array = NDArray[np.float64]
AXES = ("+x", "-x", "+y", "-y", "+z", "-z")
TOLERANCE = 1e-3


@dataclass(frozen=True)
class World:
    """The world of a file: the axes (of `AXES`) that point forward, right and up, and how long its unit is in metres.

    Raises `ValueError` where two of them lie on one line.
    """

    forward: str
    right: str
    up: str
    metres: float = 1.0

    def __post_init__(self) -> None:
        if len({axis[1] for axis in (self.forward, self.right, self.up)}) < 3:
            raise ValueError(f"forward {self.forward}, right {self.right} and up {self.up} should be three axes")

    def directions(self) -> Array:
        """Forward, right and up as unit vectors of the file, [3, 3]."""
        return np.stack([_unit(axis) for axis in (self.forward, self.right, self.up)])

    def unreal(self, points: ArrayLike) -> Array:
        """Points [..., 3] of the file in Unreal's axes and cm, which other layouts use."""
        return 100 * self.metres * (np.asarray(points, np.float64) @ self.directions().T)

    def points(self, points: ArrayLike) -> Array:
        """Points [..., 3] of the file in our world, metres."""
        return unreal_axes.point(self.unreal(points))

    def vectors(self, vectors: ArrayLike) -> Array:
        """Directions [..., 3] of the file in our world; their length stays."""
        return self.points(vectors) / self.metres


def look(world: World, position: ArrayLike, forward: ArrayLike, up: ArrayLike) -> Array:
    """World to camera [T, 3, 4] of cameras at `position` [T, 3] whose picture's middle lies along `forward` [T, 3] and
    whose picture's upper edge lies towards `up` [T, 3], all in the file's axes.

    Raises `ValueError` where the two are not unit vectors at right angles.
    """
    z, y = world.vectors(forward), -world.vectors(up)
    lengths = np.stack([np.linalg.norm(z, axis=-1), np.linalg.norm(y, axis=-1)])
    off = np.maximum(abs(lengths - 1).max(0), abs((z * y).sum(-1)))
    if (off > TOLERANCE).any():
        raise ValueError(f"forward and up are not unit vectors at right angles in frame {int(off.argmax())}")
    z = z / lengths[0][:, None]
    x = np.cross(y, z)
    x /= np.linalg.norm(x, axis=-1, keepdims=True)
    rotation = np.stack([x, np.cross(z, x), z], axis=1)
    translation = -np.einsum("tij,tj->ti", rotation, world.points(position))
    return np.concatenate([rotation, translation[..., None]], axis=-1)


def look_by_quaternion(world: World, camera: World, position: ArrayLike, quaternion_xyzw: ArrayLike) -> Array:
    """World to camera [T, 3, 4] of cameras that are turned by `quaternion_xyzw` [T, 4]: it takes directions in the
    camera's own axes, of which `camera` says what they mean, to those of the file's world."""
    quaternions = np.asarray(quaternion_xyzw, np.float64)
    if (abs(np.linalg.norm(quaternions, axis=-1) - 1) > TOLERANCE).any():
        raise ValueError("quaternions should have length 1")
    turn = Rotation.from_quat(quaternions).as_matrix()  # [T, 3, 3]
    forward, _, up = camera.directions()
    return look(world, position, turn @ forward, turn @ up)


def look_by_angles(world: World, position: ArrayLike, yaw_pitch_roll: ArrayLike) -> Array:
    """World to camera [T, 3, 4] of cameras turned by angles [T, 3] in degrees: yaw to the right about up, from forward;
    then pitch upwards; then roll clockwise, as seen by the camera. Unreal's, in whatever axes the positions are."""
    return unreal_axes.world_to_camera(world.unreal(position), yaw_pitch_roll)


def _unit(axis: str) -> Array:
    vector = np.zeros(3)
    vector["xyz".index(axis[1])] = 1 if axis[0] == "+" else -1
    return vector
