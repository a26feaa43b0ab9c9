"""Synthetic rig: cameras in a ring around a walking person, projected with `cv2`, with delays and rotations."""

import cv2
import numpy as np
from scipy.spatial.transform import Rotation

from opendimo.pipelines.rigs.epipolar import Seen
from opendimo.pipelines.rigs.views import RigView

SIZE = (1280, 720)
K = np.array([[900.0, 0, 640], [0, 900, 360], [0, 0, 1]])
DISTORTION = [-0.1, 0.02, 0.001, -0.001]
FPS = 30.0
DOWN = np.array([0.0, 0.0, -1.0])


def body(seconds: np.ndarray, upright: bool = True, moves: bool = True) -> np.ndarray:
    """Return 33 landmarks [T, 33, 3] in metres, z up, of a person 1.7 m tall who walks and waves."""
    rng = np.random.default_rng(3)
    points = np.zeros((33, 3))
    points[:11] = rng.normal([0, 0.08, 1.6], 0.05, (11, 3))
    for left, (y, z) in {11: (0.2, 1.42), 13: (0.3, 1.15), 15: (0.35, 0.9), 23: (0.12, 0.95), 25: (0.12, 0.5)}.items():
        points[left], points[left + 1] = [0, y, z], [0, -y, z]
    points[17:23] = points[[15, 16] * 3] + rng.normal(0, 0.03, (6, 3))
    points[27], points[28] = [0, 0.12, 0.08], [0, -0.12, 0.08]
    points[29:] = points[[27, 28] * 2] + rng.normal(0, 0.04, (4, 3))
    phase = 2 * np.pi * np.asarray(seconds)[:, None] * moves
    moved = np.repeat(points[None], len(phase), 0)
    moved[:, 13:23, 0] += 0.3 * np.sin(2 * phase + np.arange(10))
    moved[:, :, 0] += 0.5 * np.cos(phase)
    moved[:, :, 1] += 0.5 * np.sin(phase)
    moved[:, :, 2] += 0.05 * np.sin(3 * phase)
    return moved if upright else moved[..., [2, 1, 0]]


def ring(count: int = 4) -> list[np.ndarray]:
    """Return world_to_camera [3, 4] of cameras 4 m around the origin, 1.6 m high, that look at 1 m above it."""
    poses = []
    for k in range(count):
        angle = 2 * np.pi * k / count + 0.2
        centre = np.array([4 * np.cos(angle), 4 * np.sin(angle), 1.6])
        forward = np.array([0, 0, 1.0]) - centre
        forward /= np.linalg.norm(forward)
        right = np.cross(forward, [0, 0, 1])
        right /= np.linalg.norm(right)
        R = np.stack([right, np.cross(forward, right), forward])
        poses.append(np.c_[R, -R @ centre])
    return poses


def view(name: str, pose: np.ndarray, **changes: object) -> RigView:
    facts = {
        "name": name, "path": f"{name}.mp4", "rotation": 0, "size": SIZE, "fps": FPS, "frames": 100, "K": K[None],
        "world_to_camera": pose[None], "distortion": DISTORTION, "metric": True, "times": None, "board": None,
    }  # fmt: skip
    return RigView(**{**facts, **changes})


def turned(pose: np.ndarray, degrees: float) -> np.ndarray:
    """Return the camera pose rotated sideways."""
    return np.asarray(Rotation.from_euler("y", degrees, degrees=True).as_matrix() @ pose)


def seen(
    late: list[float],
    askew: dict[int, float] | None = None,
    noise: float = 2.0,
    blocks: int = 2,
    shifts: list[int] | None = None,
    **person: bool,
) -> list[Seen]:
    """Return the points detected by views that are `late` by this many frames.

    `askew`: view -> degrees by which it was rotated after calibration. `shifts`: sampling shift of each view in frames.
    """
    rng = np.random.default_rng(0)
    moments = np.arange(blocks)[:, None] * 50 + np.arange(40)
    views = []
    for k, (pose, delay) in enumerate(zip(ring(len(late)), late, strict=True)):
        shift = (shifts or [0] * len(late))[k]
        frames = moments + shift
        actual_pose = turned(pose, (askew or {}).get(k, 0))
        world = body((frames.ravel() - delay) / FPS, **person)
        rotation = cv2.Rodrigues(actual_pose[:, :3])[0]
        pixels = cv2.projectPoints(world.reshape(-1, 3), rotation, actual_pose[:, 3], K, np.array(DISTORTION))[0]
        pixels = pixels.reshape(*world.shape[:2], 2) + rng.normal(0, noise, (*world.shape[:2], 2))
        rig_view = view(f"cam{k}", pose)
        points = rig_view.pinhole(np.concatenate([pixels, np.ones_like(pixels[..., :1])], 2), frames.ravel())
        views.append(Seen(rig_view, frames, points.reshape(*frames.shape, 33, 3), shift))
    return views
