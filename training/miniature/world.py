"""Render the miniature world: short takes of a mannequin from two or three cameras, with exact poses and cameras.

Each limb has a distinct colour and the front of the body is brighter than its back, so that left and right, front and
back are distinguishable at 32 pixels, and limbs can be detected in generated frames (`colours.py`).
The world is right-handed with y up, in metres; cameras have OpenCV's axes.
"""

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline
from scipy.spatial.transform import Rotation
from torch import Tensor

from opendimo.model.body.load import Body, load_body
from opendimo.model.body.skeleton import JOINTS
from opendimo.model.drawing.capsules import Capsules, pixel_rays, render
from opendimo.model.drawing.limbs import LIMBS, body_capsules

Array = NDArray[np.floating[Any]]

FRAMES = 18
"""Frames of a take: two windows of 9."""
PICTURE = 64
"""Height and width of stored clips in pixels; targets may be smaller."""
KEY_EVERY = 6
"""Frames between the random key poses of a motion."""
FOCAL = 1.4
"""Focal length divided by the image size."""
THICKNESS = 1.7
"""Radius of the limbs relative to a person's, so that an arm is more than two pixels wide at 32 pixels."""
SIDE, MAX_GAP = 60.0, 90.0
"""Maximum azimuth of a camera to either side of the front, and between two cameras of a take, in degrees."""

# ranges of uniform joint angles about x, y, z, in degrees; right joints mirror the left ones
_RANGES = {
    "left_shoulder": ((-30, 30), (-80, 25), (-85, 75)),
    "left_elbow": ((0, 0), (-115, 0), (0, 0)),
    "left_hip": ((-80, 25), (-10, 10), (-5, 50)),
    "left_knee": ((0, 90), (0, 0), (0, 0)),
    "spine1": ((-8, 25), (-25, 25), (-14, 14)),
    "spine3": ((-5, 15), (-20, 20), (-10, 10)),
    "head": ((-15, 20), (-45, 45), (-10, 10)),
}
_CURL = (0.0, 85.0)  # degrees of each finger joint, from an open hand to a fist
_MAX_YAW = 40.0  # degrees of the body's rotation about the vertical, to either side

COLOURS = {
    "torso": (210, 210, 215), "skull": (232, 206, 184),
    "left_upper_arm": (150, 138, 138), "left_forearm": (235, 35, 40), "left_hand": (255, 225, 30),
    "right_upper_arm": (138, 142, 152), "right_forearm": (40, 65, 240), "right_hand": (50, 235, 235),
    "left_thigh": (128, 112, 128), "left_shin": (240, 90, 215),
    "right_thigh": (112, 126, 112), "right_shin": (85, 220, 90),
}  # fmt: skip
"""RGB of the parts of the body, unshaded."""
PARTS = tuple(COLOURS)
_BACK_BRIGHTNESS = 0.45
"""Brightness of torso and skull from behind, relative to the front."""

POSTS = 5
MOVES = ("arc_left", "arc_right", "dolly_in", "dolly_out", "pan_left", "pan_right")


@dataclass(frozen=True)
class View:
    """Clip of T frames by one camera of a take. `move` is a camera term: `static` or one of `MOVES`."""

    name: str
    move: str
    frames: NDArray[np.uint8]  # [T, P, P, 3] RGB
    K: Array  # [T, 3, 3] pixels
    world_to_camera: Array  # [T, 3, 4] metres
    joints_3d: Array  # [T, 52, 3] metres, camera coordinates
    joints_2d: Array  # [T, 52, 2] pixels
    root: Array  # [T, 3] axis-angle camera_from_body
    transl: Array  # [T, 3] metres, camera coordinates

    @property
    def azimuth(self) -> float:
        """Azimuth of the camera at the first frame in degrees; 0 is the mean facing direction of the person."""
        return azimuth(self.world_to_camera)


def azimuth(world_to_camera: Array) -> float:
    """Return the azimuth of a camera's position about the vertical at the first frame: [T, 3, 4] -> degrees."""
    rotation, translation = world_to_camera[0, :, :3], world_to_camera[0, :, 3]
    x, _, z = -rotation.T @ translation
    return float(np.degrees(np.arctan2(x, z)))


@dataclass(frozen=True)
class Take:
    """Performance of one subject: pose as axis-angle in SMPL-X's layout, and views."""

    name: str
    subject: str
    body_pose: Array  # [T, 21, 3]
    hand_pose: Array  # [T, 2, 15, 3]
    views: tuple[View, ...]


@cache
def mannequin() -> Body:
    """Load the body model of the performer once."""
    return load_body()


def make_take(number: int, *, seed: int = 0, subjects: int = 100, moving_share: float = 0.34) -> Take:
    """Render a take; `seed` and `number` determine it.

    It has two static views and, in `moving_share` of the takes, a third one with a moving camera.
    """
    random = np.random.default_rng((seed, number))
    body_pose, hand_pose, root, transl = _motion(random)
    turns = torch.tensor(np.concatenate([root[:, None], body_pose, hand_pose.reshape(FRAMES, 30, 3)], 1)).float()
    with torch.no_grad():
        joints = mannequin().joints(
            turns[:, 0], turns[:, 1:22], turns[:, 22:].unflatten(1, (2, 15)), torch.zeros(FRAMES, 3), torch.zeros(10)
        )
    lift = 0.03 - joints[..., 1].amin(1)  # the lowest joint is on the floor
    transl = transl + np.stack([np.zeros(FRAMES), lift.numpy(), np.zeros(FRAMES)], -1)
    joints = joints + torch.tensor(transl).float()[:, None]
    scene = _Scene(random)
    first = random.uniform(-SIDE, SIDE)
    azimuths = max(first - MAX_GAP, -SIDE), min(first + MAX_GAP, SIDE)
    cameras = [("a", first, "static"), ("b", random.uniform(*azimuths), "static")]
    if random.uniform() < moving_share:
        cameras.append(("c", random.uniform(*azimuths), str(random.choice(MOVES))))
    views = tuple(
        _render_view(scene, joints, root, transl, name, start, move, random.uniform(2.9, 3.2))
        for name, start, move in cameras
    )
    subject = f"subject {number % subjects}"
    return Take(f"take {number}", subject, body_pose, hand_pose, views)


def _motion(random: np.random.Generator) -> tuple[Array, Array, Array, Array]:
    """Interpolate random key poses by splines.

    Returns body [T, 21, 3], hands [T, 2, 15, 3] and root [T, 3] as axis-angle (root: world_from_body), and position
    [T, 3] on the floor.
    """
    keys = 2 + -(-FRAMES // KEY_EVERY)
    times = np.arange(FRAMES)

    def path(ranges: Any) -> Array:
        """Interpolate random values within `ranges` [..., 2] by splines [T, ...]."""
        low, high = np.moveaxis(np.asarray(ranges, float), -1, 0)
        values = random.uniform(low, high, (keys, *low.shape))
        phase = random.uniform(0, KEY_EVERY)
        return np.clip(CubicSpline(np.arange(keys) * KEY_EVERY - phase, values, bc_type="natural")(times), low, high)

    body = np.zeros((FRAMES, 21, 3))
    for joint, ranges in _RANGES.items():
        for side in ("left", "right") if joint.startswith("left") else ("",):
            angles = path(ranges)
            if side == "right":
                angles = angles * (1, -1, -1)
            name = joint.replace("left", side) if side else joint
            body[:, JOINTS.index(name) - 1] = Rotation.from_euler("xyz", angles, degrees=True).as_rotvec()
    hands = np.zeros((FRAMES, 2, 15, 3))
    for hand, sign in enumerate((-1, 1)):
        hands[:, hand, :12, 2] = sign * np.radians(path(_CURL))[:, None]  # not the thumb
    yaw = path((-_MAX_YAW, _MAX_YAW))
    root = np.stack([0 * yaw, np.radians(yaw), 0 * yaw], -1)
    position = path(((-0.05, 0.05), (0, 0), (-0.05, 0.05)))
    return body, hands, root, position


class _Scene:
    """Floor, sky and posts with random colours and positions."""

    def __init__(self, random: np.random.Generator) -> None:
        tint = random.uniform(-14, 14, (2, 3))
        self.floor = random.uniform(70, 120) + tint[0] + np.array([[-8.0], [8.0]])
        self.sky = random.uniform(130, 190) + tint[1]
        angle = 2 * np.pi * (np.arange(POSTS) + random.uniform(0, 0.7, POSTS)) / POSTS
        radius, height = random.uniform(3.4, 5.0, POSTS), random.uniform(0.8, 2.4, POSTS)
        foot = np.stack([radius * np.sin(angle), np.zeros(POSTS), radius * np.cos(angle)], -1)
        top = foot + np.stack([np.zeros(POSTS), height, np.zeros(POSTS)], -1)
        self.posts = torch.tensor(np.stack([foot, top], 1)).float()  # [POSTS, 2, 3]
        self.colours = (random.uniform(40, 150, (POSTS, 1)) + random.uniform(-12, 12, (POSTS, 3))).astype(np.float32)

    def background(self, K: Array, world_to_camera: Array) -> Array:
        """Render floor tiles of two metres, which fade with distance, and the sky: [T, P, P, 3]."""
        rays = pixel_rays(_normalised(K), PICTURE, PICTURE).numpy()  # [T, P, P, 3]
        rotation = world_to_camera[:, :, :3]
        centre = -np.einsum("tji,tj->ti", rotation, world_to_camera[:, :, 3])[:, None, None]
        world = np.einsum("tji,thwj->thwi", rotation, rays)
        down = world[..., 1:2] < -1e-3
        reach = np.where(down, -centre[..., 1:2] / np.where(down, world[..., 1:2], 1), 1e3)
        ground = centre + reach * world
        odd = (np.floor(ground[..., 0] / 2) + np.floor(ground[..., 2] / 2)) % 2 > 0.5
        tiles = np.where(odd[..., None], self.floor[0], self.floor[1])
        mean = self.floor.mean(0)
        return np.where(down, mean + np.clip(2 - reach / 4, 0, 1) * (tiles - mean), self.sky)


def _render_view(
    scene: _Scene, joints: Tensor, root: Array, transl: Array, name: str, start: float, move: str, distance: float
) -> View:
    """Render `joints` [T, 52, 3] in the world from a camera that begins at azimuth `start` in degrees."""
    K, pose = _camera(start, move, distance)
    rotation, translation = torch.tensor(pose[:, :, :3]).float(), torch.tensor(pose[:, :, 3]).float()
    joints_camera = torch.einsum("tij,tnj->tni", rotation, joints) + translation[:, None]
    posts = torch.einsum("tij,nkj->tnki", rotation, scene.posts) + translation[:, None, None]
    pose_ok = torch.ones(len(joints), dtype=torch.bool)
    body = body_capsules(joints_camera, pose_ok, pose_ok[:, None].expand(-1, 2))
    capsules = Capsules(
        torch.cat([body.start, posts[:, :, 0]], 1),
        torch.cat([body.end, posts[:, :, 1]], 1),
        torch.cat([_RADII, torch.full((POSTS,), 0.07)]).expand(len(joints), -1),
        torch.cat([body.there, torch.ones(len(joints), POSTS, dtype=torch.bool)], 1),
    )
    rendering = render(capsules, _normalised(K), PICTURE, PICTURE)
    front = rotation @ torch.tensor(Rotation.from_rotvec(root).as_matrix()).float()[:, :, 2:]  # [T, 3, 1]
    facing = (rendering.normal @ front[:, None])[..., 0]  # [T, P, P] cosine between surface normal and the body's front
    up = (rendering.normal @ rotation[:, None, :, 1:2])[..., 0]
    part = torch.cat([_PART_OF, torch.full((POSTS,), -1)])[rendering.capsule]  # [T, P, P]
    part = torch.where(rendering.capsule >= 0, part, -1)
    colours = torch.cat([_LIMB_COLOURS, torch.tensor(scene.colours)])[rendering.capsule.clamp(min=0)]
    has_back = (part == PARTS.index("torso")) | (part == PARTS.index("skull"))
    shade = (0.78 + 0.22 * up) * torch.where(has_back & (facing < 0), _BACK_BRIGHTNESS, 1.0)
    frames = np.where(
        (rendering.capsule >= 0)[..., None].numpy(),
        (colours * shade[..., None]).numpy(),
        scene.background(K, pose),
    )
    image = np.einsum("tij,tnj->tni", K, joints_camera.numpy())
    body_rotation = Rotation.from_matrix(pose[:, :, :3]) * Rotation.from_rotvec(root)
    return View(
        name,
        move,
        np.clip(frames + 0.5, 0, 255).astype(np.uint8),
        K,
        pose,
        joints_camera.numpy(),
        image[..., :2] / image[..., 2:],
        body_rotation.as_rotvec(),
        np.einsum("tij,tj->ti", pose[:, :, :3], transl) + pose[:, :, 3],
    )


def _camera(start: float, move: str, distance: float) -> tuple[Array, Array]:
    """Return K [T, 3, 3] and world_to_camera [T, 3, 4] of a camera that begins at azimuth `start` in degrees."""
    ramp = np.linspace(0, 1, FRAMES)
    kind, _, direction = move.partition("_")
    sign = 1 if direction in ("right", "in") else -1
    azimuths = np.radians(start + (sign * 55 * ramp if kind == "arc" else 0 * ramp))
    radius = distance * (1 - sign * 0.3 * ramp if kind == "dolly" else 1 + 0 * ramp)
    yaw = np.radians(sign * 16 * ramp if kind == "pan" else 0 * ramp)
    centre = np.stack([radius * np.sin(azimuths), np.full(FRAMES, 1.25), radius * np.cos(azimuths)], -1)
    forward = np.array([0.0, 0.92, 0.0]) - centre
    forward = Rotation.from_rotvec(np.stack([0 * yaw, -yaw, 0 * yaw], -1)).apply(forward)
    forward /= np.linalg.norm(forward, axis=-1, keepdims=True)
    right = np.cross(forward, (0.0, 1.0, 0.0))
    right /= np.linalg.norm(right, axis=-1, keepdims=True)
    rotation = np.stack([right, np.cross(forward, right), forward], 1)  # rows: x right, y down, z forward
    translation = -np.einsum("tij,tj->ti", rotation, centre)
    K = np.array([[FOCAL, 0, 0.5], [0, FOCAL, 0.5], [0, 0, 1 / PICTURE]]) * PICTURE
    return np.tile(K, (FRAMES, 1, 1)), np.concatenate([rotation, translation[..., None]], -1)


def _normalised(K: Array) -> Tensor:
    """Normalise intrinsics to images that span (0, 0) to (1, 1)."""
    return torch.tensor(K / np.array([[PICTURE], [PICTURE], [1.0]])).float()


def _part(parent: int, child: int) -> str:
    """Return the part of the body of a limb, from the joint in which the limb ends."""
    end = JOINTS[child]
    side, _, joint = end.partition("_")
    if parent == child:
        return "skull"
    if side not in ("left", "right") or joint in ("hip", "collar", "shoulder"):
        return "torso" if end != "head" else "skull"
    names = {"elbow": "upper_arm", "wrist": "forearm", "knee": "thigh", "ankle": "shin", "foot": "shin"}
    return f"{side}_{names.get(joint, 'hand')}"


_PART_OF = torch.tensor([PARTS.index(_part(*limb)) for limb in LIMBS])  # [52]
_LIMB_COLOURS = torch.tensor([COLOURS[_part(*limb)] for limb in LIMBS]).float()  # [52, 3]


def _radii() -> Tensor:
    """Return radii of the limbs in metres [52]: larger than a person's, fingers even more so."""
    joints = torch.zeros(1, len(JOINTS), 3)
    pose_ok = torch.ones(1, dtype=torch.bool)
    radius = body_capsules(joints, pose_ok, pose_ok[:, None].expand(-1, 2)).radius[0] * THICKNESS
    return torch.where(radius < 0.02, 0.032, radius)


_RADII = _radii()
