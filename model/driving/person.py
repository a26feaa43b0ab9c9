"""The tracked person of a driving clip, and its conversion to control inputs."""

from collections.abc import Iterable
from typing import NamedTuple, NotRequired, TypedDict

import numpy as np
import roma
import torch
from numpy.typing import NDArray
from torch import Tensor

from opendimo.model.batch import Driving
from opendimo.model.body.rotations import matrix_to_6d
from opendimo.model.driving.crops import driving_crops
from opendimo.model.driving.framing import Framing
from opendimo.model.encoder.config import EncoderConfig

Array = NDArray[np.floating]


class Person(TypedDict):
    """One person over T frames, in frame pixels, with the names of the tables `clips` and `poses`.

    Poses are undefined (any value) if not `valid`.
    """

    track: Array  # [T, 4] box x0 y0 x1 y1, NaN if not visible
    K: Array  # [T, 3, 3] intrinsics
    joints_2d: Array  # [T, 52, 3] x, y, confidence
    landmarks_2d: NotRequired[Array]  # [T, 52, 3] x, y, confidence as a landmark model saw them; default `joints_2d`
    joints_3d: Array  # [T, 52, 3] metres, camera coordinates
    body_pose: Array  # [T, 21, 3] axis-angle
    hand_pose: Array  # [T, 2, 15, 3] axis-angle
    valid: NDArray[np.bool_]  # [T] the pose is labelled
    hand_valid: Array  # [T, 2] 1 if the hand may be used


class TargetCamera(NamedTuple):
    """The camera of a target whose frames are of `size` (width, height), over T frames."""

    from_driver: Array  # [T, 3, 4] x_target = R x_driver + t: camera coordinates, metres
    K: Array  # [T, 3, 3] intrinsics in pixels
    size: tuple[int, int]


def at_frames(person: Person, frames: NDArray[np.int64]) -> Person:
    """Return the person at the given frame indices."""
    return {name: values[frames] for name, values in person.items()}  # type: ignore[return-value, index]


def driving_of(
    frames: Iterable[NDArray[np.uint8]],
    frame_size: tuple[int, int],
    person: Person,
    encoder: EncoderConfig,
    target_size: tuple[int, int],
    camera: TargetCamera | None = None,
) -> Driving:
    """Build the control inputs of one window, without a batch dimension and without NaN, images as uint8.

    `frames`: T frames [H, W, 3] of `frame_size`. `frame_size`, `target_size`: (width, height) of the frames and of the
    generated video. `camera`: of the target; None if it is unknown. Raises `ValueError` if the person is never visible.
    """
    crops = driving_crops(frames, person["track"], person["joints_2d"], person["hand_valid"], encoder)
    return Driving(**crops._asdict(), **_poses(person, frame_size, target_size, camera))


def driving_without_images(
    frame_size: tuple[int, int], person: Person, target_size: tuple[int, int], camera: TargetCamera | None = None
) -> Driving:
    """Build the control inputs of one window for controls that read poses only; images are of 0 x 0 pixels."""
    frames = len(person["track"])
    return Driving(
        body=torch.zeros(frames, 3, 0, 0, dtype=torch.uint8),
        hands=torch.zeros(frames, 2, 3, 0, 0, dtype=torch.uint8),
        hand_ok=torch.zeros(frames, 2, dtype=torch.bool),
        hand_boxes=torch.zeros(frames, 2, 3),
        **_poses(person, frame_size, target_size, camera),
    )


def same_camera(person: Person, frame_size: tuple[int, int]) -> TargetCamera:
    """Return the driver's own camera as that of the target."""
    still = np.eye(3, 4, dtype=np.float32)
    return TargetCamera(np.repeat(still[None], len(person["track"]), axis=0), person["K"], frame_size)


def _poses(
    person: Person, frame_size: tuple[int, int], target_size: tuple[int, int], camera: TargetCamera | None
) -> dict[str, Tensor]:
    valid = torch.from_numpy(np.asarray(person["valid"], bool))
    framing, target = Framing.of(frame_size, target_size), camera or same_camera(person, frame_size)
    return {
        "body6d": _sixd(person["body_pose"]),
        "hands6d": _sixd(person["hand_pose"]),
        "joints_3d": _finite(person["joints_3d"]),
        "joints_2d": _finite(framing.points(person["joints_2d"])),
        "landmarks_2d": _finite(framing.points(person.get("landmarks_2d", person["joints_2d"]))),
        "K": _finite(framing.intrinsics(person["K"])),
        "target_from_driver": _finite(target.from_driver),
        "target_K": _finite(Framing.of(target.size, target_size).intrinsics(target.K)),
        "target_ok": torch.full_like(valid, camera is not None),
        "pose_ok": valid,
        "hands_pose_ok": valid[:, None] & torch.from_numpy(np.asarray(person["hand_valid"]) > 0.5),
    }


def _finite(values: Array) -> Tensor:
    return torch.nan_to_num(torch.from_numpy(np.asarray(values, np.float32)))


def _sixd(axis_angle: Array) -> Tensor:
    """Convert axis-angle [..., 3] to 6-D rotations [..., 6]; NaN becomes the identity."""
    return matrix_to_6d(roma.rotvec_to_rotmat(_finite(axis_angle)))
