"""Generate motions of one person by formula.

Joint rotations are SMPL-X axis-angles at 30 frames per second; zero is the T-pose (Y up, facing +Z, +X is left). Only
rotations are defined; the translation follows from keeping the standing foot fixed on the floor.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from opendimo.model.body.load import Body, load_body
from opendimo.model.body.skeleton import JOINTS

Array = NDArray[np.float64]
FPS = 30
SOLES = {"left_foot": 0.028, "right_foot": 0.028, "left_ankle": 0.080, "right_ankle": 0.080}
"""Height of the joints above the ground for a standing mannequin, metres."""


@dataclass(frozen=True)
class Motion:
    """T frames: rotations [T, 52, 3] (root, body, hands), `transl` [T, 3] metres; and the body shape `betas` [B]."""

    name: str
    rotations: Array
    transl: Array
    betas: Array

    def tensors(self) -> tuple[torch.Tensor, ...]:
        """Return the arguments of `Body.joints` and `Body.vertices`."""
        turns, transl, betas = (
            torch.tensor(array, dtype=torch.float32) for array in (self.rotations, self.transl, self.betas)
        )
        return turns[:, 0], turns[:, 1:22], turns[:, 22:].unflatten(1, (2, 15)), transl, betas

    def cut(self, start: int, stop: int | None) -> "Motion":
        """Return frames [start, stop); `stop` None: to the end."""
        return Motion(self.name, self.rotations[start:stop], self.transl[start:stop], self.betas)


@cache
def mannequin() -> Body:
    """Return the (cached) body model of the studio."""
    return load_body()


class Pose:
    """Builder of joint rotations for T frames, starting from a relaxed standing pose."""

    def __init__(self, frames: int) -> None:
        self.time = np.arange(frames) / FPS  # seconds
        self.lift = np.zeros(frames)  # metres; height of the soles above the floor in a jump
        self._turns = {name: Rotation.identity(frames) for name in JOINTS}
        for side, sign in (("left", 1), ("right", -1)):  # arms hang down, slightly bent, fingers relaxed
            self.turn(f"{side}_collar", z=-6 * sign)
            self.turn(f"{side}_shoulder", z=-66 * sign)
            self.turn(f"{side}_elbow", y=-14 * sign)
            self.curl(side, 12)
            self.turn(f"{side}_hip", z=2.5 * sign)

    def turn(self, joint: str, x: Array | float = 0, y: Array | float = 0, z: Array | float = 0) -> None:
        """Rotate a joint further about its parent's axes, in degrees: about x, then y, then z."""
        angles = np.stack(np.broadcast_arrays(x, y, z, self.time)[:3], axis=-1)  # [T, 3]
        self._turns[joint] = Rotation.from_euler("xyz", angles, degrees=True) * self._turns[joint]

    def raise_arm(self, side: str, up: Array | float, forward: Array | float = 0) -> None:
        """Point a straight arm `up` degrees above the horizontal (-90: down), `forward` degrees to the front."""
        sign = 1 if side == "left" else -1
        self._turns[f"{side}_shoulder"] = Rotation.identity(len(self.time))
        self.turn(f"{side}_shoulder", z=np.asarray(up) * sign)
        self.turn(f"{side}_shoulder", y=-np.asarray(forward) * sign)

    def bend_elbow(self, side: str, degrees: Array | float) -> None:
        """Bend an elbow from straight, so that the palm moves to the front of the shoulder."""
        self._turns[f"{side}_elbow"] = Rotation.identity(len(self.time))
        self.turn(f"{side}_elbow", y=np.asarray(degrees) * (-1 if side == "left" else 1))

    def curl(self, side: str, degrees: Array | float) -> None:
        """Bend every joint of the four fingers, in degrees; 0 is flat, 75 a fist. The thumb bends half as much."""
        down = np.asarray(degrees) * (-1 if side == "left" else 1)
        for finger in ("index", "middle", "ring", "pinky"):
            for link in (1, 2, 3):
                self._turns[f"{side}_{finger}{link}"] = Rotation.identity(len(self.time))
                self.turn(f"{side}_{finger}{link}", z=down)
        for link in (2, 3):
            self._turns[f"{side}_thumb{link}"] = Rotation.identity(len(self.time))
            self.turn(f"{side}_thumb{link}", y=0.5 * down)

    def rotations(self) -> Array:
        """Return the axis-angle rotations [T, 52, 3]."""
        return np.stack([self._turns[name].as_rotvec() for name in JOINTS], axis=1)


def _wave(pose: Pose, t: Array) -> None:
    pose.raise_arm("right", 12 + 4 * np.sin(2 * t), 30)
    pose.bend_elbow("right", 0)
    pose.turn("right_elbow", x=-75, z=-76 + 26 * np.sin(5.5 * t))
    pose.curl("right", 6)
    pose.turn("spine2", z=4 * np.sin(1.8 * t))
    pose.turn("head", y=8 * np.sin(1.4 * t))
    pose.bend_elbow("left", 20 + 10 * np.sin(1.8 * t))


def _squat(pose: Pose, t: Array) -> None:
    depth = 0.5 - 0.5 * np.cos(2.6 * t)
    for side, sign in (("left", 1), ("right", -1)):
        pose.turn(f"{side}_hip", x=-85 * depth, y=12 * depth * sign)
        pose.turn(f"{side}_knee", x=105 * depth)
        pose.turn(f"{side}_ankle", x=-32 * depth)
        pose.raise_arm(side, -75 + 75 * depth, 70 * depth)
        pose.curl(side, 5)
    pose.turn("pelvis", x=30 * depth)
    pose.turn("spine2", x=-6 * depth)


def _jumping_jacks(pose: Pose, t: Array) -> None:
    apart = 0.5 - 0.5 * np.cos(6.0 * t)
    pose.lift = 0.07 * np.sin(6.0 * t) ** 2
    for side, sign in (("left", 1), ("right", -1)):
        pose.raise_arm(side, -72 + 140 * apart, 8)
        pose.turn(f"{side}_hip", z=20 * apart * sign)
        pose.turn(f"{side}_knee", x=10 + 8 * np.sin(12 * t))
        pose.turn(f"{side}_hip", x=-6 - 4 * np.sin(12 * t))
        pose.curl(side, 5)


def _walk(pose: Pose, t: Array, turning: float) -> None:
    stride = 5.4 * t
    for side, phase in (("left", 0.0), ("right", np.pi)):
        sign = 1 if side == "left" else -1
        swing = np.sin(stride + phase)
        lifting = np.clip(np.cos(stride + phase), 0, 1)
        pose.turn(f"{side}_hip", x=-6 - 24 * swing)
        pose.turn(f"{side}_knee", x=8 + 48 * lifting**1.5)
        pose.turn(f"{side}_ankle", x=-2 + 24 * swing - 30 * lifting**1.5)  # level while it stands
        pose.turn(f"{side}_shoulder", x=22 * swing)
        pose.bend_elbow(side, 30)
        pose.turn(f"{side}_collar", y=-4 * swing * sign)
    pose.turn("pelvis", y=turning * t + 5 * np.sin(stride))
    pose.turn("spine2", y=-8 * np.sin(stride))


def _walk_circle(pose: Pose, t: Array) -> None:
    _walk(pose, t, turning=100.0)


def _side_steps(pose: Pose, t: Array) -> None:
    beat = 3.4 * t
    for side, sign in (("left", 1), ("right", -1)):
        wide = np.clip(sign * np.sin(beat), 0, 1)
        pose.turn(f"{side}_hip", z=24 * wide * sign, x=-18 * wide)
        pose.turn(f"{side}_knee", x=10 + 20 * wide)
        pose.raise_arm(side, -60 + 62 * wide, 15)
        pose.bend_elbow(side, 25 + 45 * (1 - wide))
        pose.curl(side, 8)
    pose.turn("spine1", z=-6 * np.sin(beat))


def _punches(pose: Pose, t: Array) -> None:
    beat = 5.0 * t
    for side, sign in (("left", 1), ("right", -1)):
        reach = np.clip(sign * np.sin(beat), 0, 1)
        pose.raise_arm(side, -48 + 44 * reach, 50 + 30 * reach)
        pose.bend_elbow(side, 118 * (1 - reach) + 6)
        pose.curl(side, 72)
        pose.turn(f"{side}_hip", x=-16, y=8 * sign)
        pose.turn(f"{side}_knee", x=26)
        pose.turn(f"{side}_ankle", x=-10)
    pose.turn("spine2", y=-20 * np.sin(beat), x=6)
    pose.turn("head", y=12 * np.sin(beat))


def _turn(pose: Pose, t: Array) -> None:
    beat = 6.0 * t
    for side, phase in (("left", 0.0), ("right", np.pi)):
        lifting = np.clip(np.sin(beat + phase), 0, 1)
        pose.turn(f"{side}_hip", x=-34 * lifting)
        pose.turn(f"{side}_knee", x=8 + 56 * lifting)
        pose.turn(f"{side}_ankle", x=-10 * lifting)
        pose.raise_arm(side, -8 + 14 * np.sin(2.5 * t + phase), 12)
        pose.bend_elbow(side, 18 + 14 * np.sin(2.5 * t))
        pose.curl(side, 6)
    pose.turn("pelvis", y=150 * t)


def _count(pose: Pose, t: Array) -> None:
    for side, phase in (("left", 0.0), ("right", np.pi)):
        sign = 1 if side == "left" else -1
        pose.raise_arm(side, -38, 34)
        pose.bend_elbow(side, 0)
        pose.turn(f"{side}_elbow", x=-75, z=(112 + 20 * np.sin(2.6 * t + phase)) * sign)
        pose.curl(side, 34 - 34 * np.cos(3.2 * t + phase))
    pose.turn("spine2", y=6 * np.sin(1.4 * t))
    pose.turn("head", y=-8 * np.sin(1.4 * t), x=5)


ACTIONS: dict[str, Callable[[Pose, Array], None]] = {
    "wave": _wave, "squat": _squat, "jumping-jacks": _jumping_jacks, "walk-circle": _walk_circle,
    "side-steps": _side_steps, "punches": _punches, "turn": _turn, "count": _count,
}  # fmt: skip
"""Action name -> function that modifies a relaxed standing pose over the time [T] in seconds."""


def act(name: str, frames: int, random: np.random.Generator) -> Motion:
    """Return the motion `ACTIONS[name]` with a random body shape, a random pace and a random start time."""
    pose = Pose(frames)
    ACTIONS[name](pose, pose.time * random.uniform(0.9, 1.1) + random.uniform(0, 0.6))
    betas = np.clip(random.normal(0, 0.7, mannequin().num_betas), -1.5, 1.5)
    return planted(name, pose.rotations(), pose.lift, betas)


def planted(name: str, rotations: Array, lift: Array, betas: Array) -> Motion:
    """Compute the translation so that the lowest sole is `lift` [T] above the floor (y = 0) and does not slide.

    The mean position of the feet is the origin.
    """
    still = Motion(name, rotations, np.zeros((len(rotations), 3)), betas)
    soles = _soles(still)
    heights = soles[..., 1]
    standing = np.exp(-(heights - heights.min(1, keepdims=True)) / 0.01)
    standing /= standing.sum(1, keepdims=True)  # [T, 4]
    between = (standing[1:] + standing[:-1]) / 2
    slide = np.einsum("ts,tsd->td", between, np.diff(soles, axis=0))  # [T-1, 3]
    transl = np.concatenate([np.zeros((1, 3)), -np.cumsum(slide, axis=0)])
    transl[:, 1] = lift - heights.min(1)
    middle = soles.mean(1) + transl
    transl[:, [0, 2]] -= middle[:, [0, 2]].mean(0)
    return Motion(name, rotations, transl, betas)


def sole_heights(motion: Motion) -> Array:
    """Return the heights [T, 4] of the sole under each foot and heel."""
    return _soles(motion)[..., 1]


def _soles(motion: Motion) -> Array:
    """Return the points [T, 4, 3] under the joints of `SOLES`, as far below as in a standing body of this size."""
    with torch.no_grad():
        joints = mannequin().joints(*motion.tensors()).double().numpy()
        rest = [mannequin().rest_joints(b).double().numpy() for b in (motion.tensors()[-1], torch.zeros(1))]
    pelvis, ankle = JOINTS.index("pelvis"), JOINTS.index("left_ankle")
    size, neutral = (body[pelvis, 1] - body[ankle, 1] for body in rest)
    soles = joints[:, [JOINTS.index(joint) for joint in SOLES]]
    soles[..., 1] -= size / neutral * np.array(list(SOLES.values()))
    return np.asarray(soles)
