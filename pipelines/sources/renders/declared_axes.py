"""Convert from the axes and units declared in a manifest to ours.

The axes that point forward, right and up define a file's coordinate system including its handedness: Unreal is +x +y +z
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
    """Coordinate system of a file: the axes (of `AXES`) that point forward, right and up, and its unit in metres.

    Raises `ValueError` if two of them are parallel.
    """

    forward: str
    right: str
    up: str
    metres: float = 1.0

    def __post_init__(self) -> None:
        if len({axis[1] for axis in (self.forward, self.right, self.up)}) < 3:
            raise ValueError(f"forward {self.forward}, right {self.right} and up {self.up} should be three axes")

    def directions(self) -> Array:
        """Return forward, right and up as unit vectors in the file's axes, [3, 3]."""
        return np.stack([_unit(axis) for axis in (self.forward, self.right, self.up)])

    def unreal(self, points: ArrayLike) -> Array:
        """Convert the file's points [..., 3] to Unreal's axes in cm, as used by other layouts."""
        return 100 * self.metres * (np.asarray(points, np.float64) @ self.directions().T)

    def points(self, points: ArrayLike) -> Array:
        """Convert the file's points [..., 3] to our world, in metres."""
        return unreal_axes.point(self.unreal(points))

    def vectors(self, vectors: ArrayLike) -> Array:
        """Convert the file's directions [..., 3] to our world, keeping their length."""
        return self.points(vectors) / self.metres


def look(world: World, position: ArrayLike, forward: ArrayLike, up: ArrayLike) -> Array:
    """Return world to camera [T, 3, 4] of cameras at `position` [T, 3], all in the file's axes.

    `forward` [T, 3] points to the middle of the picture, `up` [T, 3] to its upper edge.
    Raises `ValueError` if the two are not unit vectors at right angles.
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
    """Return world to camera [T, 3, 4] of cameras rotated by `quaternion_xyzw` [T, 4].

    The quaternion rotates directions from the camera's axes, declared by `camera`, to the file's world.
    Raises `ValueError` if a quaternion does not have length 1.
    """
    quaternions = np.asarray(quaternion_xyzw, np.float64)
    if (abs(np.linalg.norm(quaternions, axis=-1) - 1) > TOLERANCE).any():
        raise ValueError("quaternions should have length 1")
    turn = Rotation.from_quat(quaternions).as_matrix()  # [T, 3, 3]
    forward, _, up = camera.directions()
    return look(world, position, turn @ forward, turn @ up)


def look_by_angles(world: World, position: ArrayLike, yaw_pitch_roll: ArrayLike) -> Array:
    """Return world to camera [T, 3, 4] of cameras rotated by angles [T, 3] in degrees.

    Yaw turns right about up, starting from forward; then pitch turns upwards; then roll turns clockwise as seen by the
    camera. This is Unreal's convention, whatever the axes of the positions.
    """
    return unreal_axes.world_to_camera(world.unreal(position), yaw_pitch_roll)


def _unit(axis: str) -> Array:
    vector = np.zeros(3)
    vector["xyz".index(axis[1])] = 1 if axis[0] == "+" else -1
    return vector
