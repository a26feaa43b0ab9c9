"""The studio's cameras, in Unreal units (centimetres, degrees, millimetres), converted to K and `[R | t]`."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from opendimo.pipelines.sources.renders import unreal_axes
from opendimo.pipelines.sources.renders.cameras import unit_intrinsics
from opendimo.storage_schemas.conventions import scale_intrinsics

Array = NDArray[np.float64]

SENSOR = (36.0, 20.25)  # mm
FOCAL = 30.0  # mm


@dataclass(frozen=True)
class Camera:
    """A camera over T frames: Unreal position [T, 3] cm, yaw, pitch, roll [T, 3] degrees, focal length [T] mm.

    `terms`: its motion, in terms of `storage_schemas.tables.CAMERA_TERMS`.
    """

    position: Array
    angles: Array
    focal: Array
    terms: tuple[str, ...]

    @property
    def world_to_camera(self) -> Array:
        """Extrinsics [T, 3, 4], metres, OpenCV axes."""
        return unreal_axes.world_to_camera(self.position, self.angles)

    def K(self, size: tuple[int, int]) -> Array:
        """Return the intrinsics [T, 3, 3] for images of `size` (width, height)."""
        sensor = np.broadcast_to(SENSOR, (len(self.focal), 2))
        return np.asarray(scale_intrinsics(unit_intrinsics(self.focal, sensor), *size), np.float64)


def static(frames: int, azimuth: float, distance: float = 3.6, height: float = 1.3, aim: float = 0.92) -> Camera:
    """Return a static camera `distance` metres from the centre that looks at a point `aim` metres above it.

    `azimuth` 0 degrees is in front of a body with yaw 90 (which faces Unreal's -X); positive is to that camera's right.
    """
    turn = np.radians(azimuth)
    position = 100 * np.array([-distance * np.cos(turn), distance * np.sin(turn), height])
    return Camera(
        np.tile(position, (frames, 1)),
        np.tile(_look_at(position, np.array([0.0, 0.0, 100 * aim])), (frames, 1)),
        np.full(frames, FOCAL),
        ("static",),
    )


def dolly(camera: Camera, metres: float) -> Camera:
    """Move the camera horizontally along its viewing direction; positive is forward."""
    return _moved(camera, 0, metres, ("dolly_out", "dolly_in"))


def truck(camera: Camera, metres: float) -> Camera:
    """Move the camera sideways; positive is to its right."""
    return _moved(camera, 1, metres, ("truck_left", "truck_right"))


def pedestal(camera: Camera, metres: float) -> Camera:
    """Move the camera vertically; positive is up."""
    return _moved(camera, 2, metres, ("pedestal_down", "pedestal_up"))


def pan(camera: Camera, degrees: float) -> Camera:
    """Rotate the camera about the vertical axis; positive is to its right."""
    return _turned(camera, 0, degrees, ("pan_left", "pan_right"))


def tilt(camera: Camera, degrees: float) -> Camera:
    """Rotate the camera up or down; positive is up."""
    return _turned(camera, 1, degrees, ("tilt_down", "tilt_up"))


def zoom(camera: Camera, factor: float) -> Camera:
    """Change the focal length by `factor` over the shot, symmetrically about the middle frame."""
    focal = camera.focal * factor ** (_ramp(len(camera.focal)) - 0.5)
    return Camera(camera.position, camera.angles, focal, _terms(camera, factor - 1, ("zoom_out", "zoom_in")))


def arc(camera: Camera, degrees: float) -> Camera:
    """Move the camera around the centre while it keeps looking at it; positive is to its right."""
    turn = np.radians(degrees) * (_ramp(len(camera.focal)) - 0.5)
    x, y, z = camera.position.T
    # Counter-clockwise from above in Unreal's left-handed axes is to the right, seen from the camera.
    around = np.stack([x * np.cos(turn) + y * np.sin(turn), -x * np.sin(turn) + y * np.cos(turn), z], axis=-1)
    angles = camera.angles - np.outer(np.degrees(turn), (1, 0, 0))
    return Camera(around, angles, camera.focal, _terms(camera, degrees, ("arc_left", "arc_right")))


def shake(camera: Camera, degrees: float, seed: int) -> Camera:
    """Add hand-held shake: smooth noise on the angles, `degrees` rms."""
    time = np.arange(len(camera.focal)) / 30
    random = np.random.default_rng(seed)
    frequencies = random.uniform(1.5, 6, (3, 5, 1))
    noise = np.sin(2 * np.pi * (frequencies * time + random.uniform(0, 1, (3, 5, 1)))).sum(1)  # [3, T]
    angles = camera.angles + degrees * noise.T / noise.std()
    return Camera(camera.position, angles, camera.focal, _terms(camera, 1, ("shake", "shake")))


def _look_at(position: Array, target: Array) -> Array:
    x, y, z = target - position
    return np.array([np.degrees(np.arctan2(y, x)), np.degrees(np.arctan2(z, np.hypot(x, y))), 0.0])


def _ramp(frames: int) -> Array:
    """Return a ramp [T] from 0 to 1 with soft start and stop."""
    t = np.linspace(0, 1, frames)
    edge = 0.15
    speed = np.clip(np.minimum(t, 1 - t) / edge, 0.2, 1)
    return np.cumsum(speed) / speed.sum()


def _moved(camera: Camera, axis: int, metres: float, words: tuple[str, str]) -> Camera:
    yaw = np.radians(camera.angles[:, 0])
    zero = np.zeros_like(yaw)
    level = [np.stack([np.cos(yaw), np.sin(yaw), zero], -1), np.stack([-np.sin(yaw), np.cos(yaw), zero], -1)]
    direction = [*level, np.broadcast_to([0.0, 0.0, 1.0], (len(yaw), 3))][axis]
    displacement = 100 * metres * (_ramp(len(yaw)) - 0.5)
    return Camera(
        camera.position + displacement[:, None] * direction, camera.angles, camera.focal, _terms(camera, metres, words)
    )


def _turned(camera: Camera, axis: int, degrees: float, words: tuple[str, str]) -> Camera:
    angles = camera.angles.copy()
    angles[:, axis] += degrees * (_ramp(len(angles)) - 0.5)
    return Camera(camera.position, angles, camera.focal, _terms(camera, degrees, words))


def _terms(camera: Camera, amount: float, words: tuple[str, str]) -> tuple[str, ...]:
    before = tuple(term for term in camera.terms if term != "static")
    return (*before, words[amount > 0])
