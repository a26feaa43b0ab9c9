"""Render takes of the studio's people: skinned, clothed bodies in furnished rooms, as in the demo.

The tiny base model is also trained on these takes; the demo renders other ones.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from opendimo.pipelines.studio import cameras
from opendimo.pipelines.studio.cameras import Camera
from opendimo.pipelines.studio.film import Person, film
from opendimo.pipelines.studio.motions import ACTIONS, Motion, act, mannequin
from opendimo.pipelines.studio.scene import Scene
from opendimo.storage_schemas.media.video import centre_crop
from opendimo.training.miniature.world import FRAMES, Take, View

Array = NDArray[np.floating]

STEP = 2
"""Studio frames per frame of a take: the frame step of the demo's windows."""
PICTURE = 128
"""Height and width of stored clips in pixels."""
RENDER_SIZE = (228, PICTURE)
"""Width and height before the centre crop, with the aspect ratio of the demo's 640 x 360."""
ARC, DOLLY, PAN = 24.0, 0.8, 12.0
"""Extent of camera moves: degrees, metres, degrees."""


def make_studio_take(number: int, *, seed: int = 0, subjects: int = 100, moving_share: float = 0.34) -> Take:
    """Render a take of a person of random build, clothes and actions; `seed` and `number` determine it.

    It has two static views and, in `moving_share` of the takes, a third one with a moving camera.
    """
    random = np.random.default_rng((seed, 2, number))
    length = (FRAMES - 1) * STEP + 1
    motion = _two_actions(random, length)
    person = Person("somebody", motion, yaw=90 + random.uniform(-15, 15), look=int(random.integers(4)))
    shots = [("a", "static", _static(random, length)), ("b", "static", _static(random, length))]
    if random.uniform() < moving_share:
        shots.append(("c", *_moving(random, length)))
    images = film(Scene(int(random.integers(60))), [person], [camera for _, _, camera in shots], RENDER_SIZE)
    videos = np.stack(list(images)[::STEP], 1)  # [views, T, H, W, 3]
    joints = person.joints()[::STEP]
    rotations = motion.rotations[::STEP]
    body = Rotation.from_matrix(person.rotation) * Rotation.from_rotvec(rotations[:, 0])
    root, pose, hands, transl, betas = motion.tensors()
    rest = mannequin().joints(0 * root, 0 * pose, 0 * hands, 0 * transl, betas)[0, 0].numpy()
    views = tuple(
        _view(name, move, camera, video, joints, body, rest)
        for (name, move, camera), video in zip(shots, videos, strict=True)
    )
    curls = rotations[:, 22:].reshape(FRAMES, 2, 15, 3)
    return Take(f"take {number}", f"subject {number % subjects}", rotations[:, 1:22], curls, views)


def _two_actions(random: np.random.Generator, frames: int) -> Motion:
    """Concatenate two actions, one per window, so that a reference from the other window shows another pose."""
    change = FRAMES // 2 * STEP
    starts = random.integers(0, 60, 2)
    first, second = (
        act(str(action), int(start) + frames, random).cut(int(start), None)
        for action, start in zip(random.choice(list(ACTIONS), 2, replace=False), starts, strict=True)
    )
    before, after = first.cut(0, change), second.cut(change, None)
    return Motion(
        first.name,
        np.concatenate([before.rotations, after.rotations]),
        np.concatenate([before.transl, after.transl]),
        first.betas,
    )


def _static(random: np.random.Generator, frames: int) -> Camera:
    """Draw a static camera."""
    return cameras.static(frames, random.uniform(-75, 75), random.uniform(2.9, 3.7), random.uniform(1.2, 1.7))


def _moving(random: np.random.Generator, frames: int) -> tuple[str, Camera]:
    """Draw a moving camera; return its move and the camera."""
    static, sign = _static(random, frames), int(random.choice((-1, 1)))
    side = "right" if sign > 0 else "left"
    moves = (
        (f"arc_{side}", cameras.arc(static, sign * ARC)),
        (f"dolly_{'in' if sign > 0 else 'out'}", cameras.dolly(static, sign * DOLLY)),
        (f"pan_{side}", cameras.pan(static, sign * PAN)),
    )
    return moves[int(random.integers(len(moves)))]


def _view(
    name: str,
    move: str,
    camera: Camera,
    video: NDArray[np.uint8],
    joints: Array,
    body: Rotation,
    rest: Array,
) -> View:
    """Build the view of a camera from its video [T, H, W, 3], and joints [T, 52, 3] and body rotation in the world.

    `rest` [3]: position of the pelvis in the rest pose.
    """
    K = camera.K(RENDER_SIZE)[::STEP].copy()
    K[:, 0, 2] -= (RENDER_SIZE[0] - PICTURE) / 2
    pose = camera.world_to_camera[::STEP]
    joints_camera = np.einsum("tij,tnj->tni", pose[:, :, :3], joints) + pose[:, None, :, 3]
    image = np.einsum("tij,tnj->tni", K, joints_camera)
    return View(
        name,
        move,
        centre_crop(video, PICTURE, PICTURE),
        K,
        pose,
        joints_camera,
        image[..., :2] / image[..., 2:],
        (Rotation.from_matrix(pose[:, :, :3]) * body).as_rotvec(),
        joints_camera[:, 0] - rest,
    )
