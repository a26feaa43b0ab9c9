"""Takes of the studio's people: skinned bodies in clothes before furnished backgrounds, as in the demo.

The tiny base is pretrained on these, too; the demo itself films other takes.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from pipelines.studio import cameras
from pipelines.studio.cameras import Camera
from pipelines.studio.film import Person, film
from pipelines.studio.motions import ACTIONS, Motion, act, mannequin
from pipelines.studio.scene import Scene
from storage_schemas.video import centre_crop
from training.miniature.world import FRAMES, Take, View

Array = NDArray[np.floating]

STEP = 2
"""Studio frames per frame of a take, as between the frames of the demo's windows."""
PICTURE = 128
"""Height and width in pixels of the clips that are stored."""
FILMED = (228, PICTURE)
"""Size (width, height) before the centre crop, in the shape of the demo's 640 x 360."""
ARC, DOLLY, PAN = 24.0, 0.8, 12.0
"""Degrees, metres, degrees of the moves of cameras."""


def make_studio_take(number: int, *, seed: int = 0, subjects: int = 100, moving_share: float = 0.34) -> Take:
    """Take `number` of the studio `seed`, the same one at each call: a person of random build, clothes and action.

    Two static views, and in `moving_share` of the takes a third one whose camera moves.
    """
    random = np.random.default_rng((seed, 2, number))
    length = (FRAMES - 1) * STEP + 1
    motion = _two_actions(random, length)
    person = Person("somebody", motion, yaw=90 + random.uniform(-15, 15), look=int(random.integers(4)))
    shots = [("a", "static", _static(random, length)), ("b", "static", _static(random, length))]
    if random.uniform() < moving_share:
        shots.append(("c", *_moving(random, length)))
    filmed = film(Scene(int(random.integers(60))), [person], [camera for _, _, camera in shots], FILMED)
    pictures = np.stack(list(filmed)[::STEP], 1)  # [views, T, H, W, 3]
    joints = person.joints()[::STEP]
    rotations = motion.rotations[::STEP]
    body = Rotation.from_matrix(person.rotation) * Rotation.from_rotvec(rotations[:, 0])
    root, pose, hands, transl, betas = motion.tensors()
    rest = mannequin().joints(0 * root, 0 * pose, 0 * hands, 0 * transl, betas)[0, 0].numpy()
    views = tuple(
        _view(name, move, camera, seen, joints, body, rest)
        for (name, move, camera), seen in zip(shots, pictures, strict=True)
    )
    curls = rotations[:, 22:].reshape(FRAMES, 2, 15, 3)
    return Take(f"take {number}", f"subject {number % subjects}", rotations[:, 1:22], curls, views)


def _two_actions(random: np.random.Generator, frames: int) -> Motion:
    """One action up to the second window, another one from there on: a reference of the other window shows a pose that
    the driver does not."""
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
    return cameras.static(frames, random.uniform(-75, 75), random.uniform(3.0, 4.4), random.uniform(1.2, 1.7))


def _moving(random: np.random.Generator, frames: int) -> tuple[str, Camera]:
    """A move and its camera."""
    still, sign = _static(random, frames), int(random.choice((-1, 1)))
    side = "right" if sign > 0 else "left"
    moves = (
        (f"arc_{side}", cameras.arc(still, sign * ARC)),
        (f"dolly_{'in' if sign > 0 else 'out'}", cameras.dolly(still, sign * DOLLY)),
        (f"pan_{side}", cameras.pan(still, sign * PAN)),
    )
    return moves[int(random.integers(len(moves)))]


def _view(
    name: str,
    move: str,
    camera: Camera,
    pictures: NDArray[np.uint8],
    joints: Array,
    body: Rotation,
    rest: Array,
) -> View:
    """One camera's clip of pictures [T, H, W, 3], joints [T, 52, 3] and the body's rotation in the world.

    `rest` [3]: the pelvis of the body's rest pose.
    """
    K = camera.K(FILMED)[::STEP].copy()
    K[:, 0, 2] -= (FILMED[0] - PICTURE) / 2
    pose = camera.world_to_camera[::STEP]
    seen = np.einsum("tij,tnj->tni", pose[:, :, :3], joints) + pose[:, None, :, 3]
    image = np.einsum("tij,tnj->tni", K, seen)
    return View(
        name,
        move,
        centre_crop(pictures, PICTURE, PICTURE),
        K,
        pose,
        seen,
        image[..., :2] / image[..., 2:],
        (Rotation.from_matrix(pose[:, :, :3]) * body).as_rotvec(),
        seen[:, 0] - rest,
    )
