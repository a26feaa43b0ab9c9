"""Render people in a scene from several cameras, frame by frame."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from opendimo.model.body.mannequin import vertex_colours
from opendimo.model.body.mannequin_parts import EYE, HAIR, IRIS, LIPS
from opendimo.model.body.skeleton import BODY_JOINTS, FROM_SMPLX, JOINTS
from opendimo.pipelines.sources.renders import unreal_axes
from opendimo.pipelines.studio.cameras import Camera
from opendimo.pipelines.studio.motions import Motion, mannequin
from opendimo.pipelines.studio.raster import draw
from opendimo.pipelines.studio.scene import Background, Scene, cast_shadows, light

Array = NDArray[np.float64]
Frame = NDArray[np.uint8]

SUIT = {
    "left_shoulder": (190, 70, 70), "left_elbow": (240, 40, 45), "left_wrist": (255, 225, 30),
    "right_shoulder": (70, 85, 190), "right_elbow": (40, 65, 240), "right_wrist": (50, 235, 235),
    "left_hip": (150, 80, 150), "left_knee": (240, 90, 215), "left_ankle": (120, 40, 110), "left_foot": (120, 40, 110),
    "right_hip": (80, 140, 80), "right_knee": (85, 220, 90), "right_ankle": (40, 110, 45), "right_foot": (40, 110, 45),
}  # fmt: skip
"""RGB colours of the suit's limbs by the joint that moves them."""
TORSO = ((225, 225, 228), (232, 214, 190), (206, 222, 236), (214, 232, 210))
"""RGB colours of the suit's torso."""


@dataclass(frozen=True)
class Person:
    """A person who performs a motion: Unreal position in cm, yaw in degrees; `look` varies the clothes."""

    name: str
    motion: Motion
    position: tuple[float, float, float] = (0.0, 0.0, 0.0)
    yaw: float = 90.0
    look: int = 0

    @property
    def rotation(self) -> Array:
        """Rotation [3, 3] from SMPL-X axes to the world, without the rotations of the motion."""
        return unreal_axes.world_from_body(self.yaw)

    def joints(self) -> Array:
        """Return the true joints in the world [T, 52, 3], metres."""
        with torch.no_grad():
            joints = mannequin().joints(*self.motion.tensors()).double().numpy()
        return self._placed(joints)

    def vertices(self) -> Array:
        """Return the mesh vertices in the world [T, V, 3], metres."""
        with torch.no_grad():
            vertices = mannequin().vertices(*self.motion.tensors()).double().numpy()
        return self._placed(vertices)

    def _placed(self, points: Array) -> Array:
        return points @ self.rotation.T + unreal_axes.point(self.position)


def film(scene: Scene, people: list[Person], cameras: list[Camera], size: tuple[int, int]) -> Iterator[list[Frame]]:
    """Yield, for each moment, a list of the frames [H, W, 3] RGB of all cameras. `size` is (width, height)."""
    faces = mannequin().faces.numpy()
    intrinsics, poses = [camera.K(size) for camera in cameras], [camera.world_to_camera for camera in cameras]
    empty: list[tuple[bytes, Background] | None] = [None] * len(cameras)
    every_face = np.concatenate([faces + i * int(faces.max() + 1) for i in range(len(people))]) if people else faces
    skins, clothes = [person.vertices() for person in people], [dressed(person.look) for person in people]
    for frame in range(len(cameras[0].focal)):
        bodies = [skin[frame] for skin in skins]
        lit = [colours * light(normals(body, faces)) for colours, body in zip(clothes, bodies, strict=True)]
        pictures = []
        for i in range(len(cameras)):
            K, pose = intrinsics[i][frame], poses[i][frame]
            key = K.tobytes() + pose.tobytes()
            cached = empty[i]
            background = cached[1] if cached and cached[0] == key else scene.background(K, pose, size)
            empty[i] = key, background
            picture = background.image.copy()
            for body in bodies:
                picture = cast_shadows(Background(picture, background.ground, background.is_ground), body)
            if bodies:
                in_camera = np.concatenate(bodies) @ pose[:, :3].T + pose[:, 3]
                image = in_camera @ K.T
                layer = draw(image[:, :2] / image[:, 2:], image[:, 2], every_face, np.concatenate(lit), size)
                if layer is not None:
                    layer.over(picture)
            pictures.append(np.clip(picture + 0.5, 0, 255).astype(np.uint8))
        yield pictures


def normals(vertices: Array, faces: NDArray[np.int64]) -> Array:
    """Return outward unit normals [V, 3] of a mesh: the area-weighted mean of the triangles around each vertex."""
    a, b, c = vertices[faces].transpose(1, 0, 2)
    each = np.cross(b - a, c - a)
    total = np.stack(
        [np.bincount(faces.ravel(), np.repeat(each[:, axis], 3), minlength=len(vertices)) for axis in range(3)], axis=-1
    )
    return np.asarray(total / np.maximum(np.linalg.norm(total, axis=-1, keepdims=True), 1e-12))


def dressed(look: int) -> Array:
    """Return the vertex colours [V, 3] of a person in a suit with a distinct colour per limb; `look` selects the torso.

    Distinct colours make limbs, left and right distinguishable at the few pixels that a tiny model draws.
    """
    colours = vertex_colours().astype(np.float64)
    bone = mannequin().layer.lbs_weights[:, list(FROM_SMPLX)].argmax(1).numpy()
    is_face = (colours[:, None] == np.array([HAIR, EYE, IRIS, LIPS])).all(-1).any(-1)
    for number, name in enumerate(JOINTS):
        if (colour := _suit_colour(name, look)) is not None:
            colours[(bone == number) & ~is_face] = colour
    return colours


def _suit_colour(joint: str, look: int) -> tuple[int, int, int] | None:
    """Return the colour of the suit at a joint; None for the head, which keeps its own."""
    if joint in SUIT:
        return SUIT[joint]
    if joint not in BODY_JOINTS:  # a finger
        return SUIT[f"{joint.split('_', maxsplit=1)[0]}_wrist"]
    return None if joint in ("neck", "head") else TORSO[look % len(TORSO)]
