"""The driving window of a pair, read from a release: pixels of the person, and pose labels where there are some."""

from dataclasses import replace
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.batch import Driving
from model.driving.person import Person, driving_of
from model.encoder.config import EncoderConfig
from storage_schemas.conventions import assumed_intrinsics
from storage_schemas.video import decode
from training.release import Pair, Release

Row = dict[str, Any]
POSE_COLUMNS = ["body_pose", "hand_pose", "joints_3d", "joints_2d", "valid", "hand_valid"]


def read_driving(release: Release, pair: Pair, encoder: EncoderConfig) -> Driving:
    """The `Driving` of one sample: no batch dimension, pictures as bytes (they are kept in memory), labels without NaN.

    A camera that is not known is `assumed_intrinsics`, as it was for whoever labelled the joints. Lens distortion is
    not in `K`: `joints_2d` show it, `joints_3d` projected by `K` do not.
    """
    chosen = pair.driving_frames
    [video] = release.blobs("clip_videos", "video", [pair.driving_clip_id])
    frames = decode(video, start=int(chosen[0]), stop=int(chosen[-1]) + 1, step=pair.frame_step)  # [T, H, W, 3]
    [clip] = release.rows("clips", [pair.driving_clip_id], ["track", "K", "width", "height"])
    [target] = release.rows("latents", [pair.latent_id], ["width", "height"])
    place = {"track": clip["track"][chosen], "K": _intrinsics(clip, chosen)}
    person = cast(Person, place | _read_pose(release, pair))
    driving = driving_of(frames, person, encoder, (target["width"], target["height"]))
    return replace(driving, body=_bytes(driving.body), hands=_bytes(driving.hands))


def _read_pose(release: Release, pair: Pair) -> dict[str, NDArray[Any]]:
    """The label's columns in the window; zeros, and nothing valid, where there is no label."""
    if pair.pose_id is None:
        t = pair.num_frames
        shapes = {"body_pose": (t, 21, 3), "hand_pose": (t, 2, 15, 3), "joints_3d": (t, 52, 3), "joints_2d": (t, 52, 3)}
        nothing = {"valid": np.zeros(t, bool), "hand_valid": np.zeros((t, 2), np.float32)}
        return {name: np.zeros(shape, np.float32) for name, shape in shapes.items()} | nothing
    [row] = release.rows("poses", [pair.pose_id], POSE_COLUMNS)
    return {name: np.asarray(row[name])[pair.driving_frames] for name in POSE_COLUMNS}


def _intrinsics(clip: Row, chosen: NDArray[np.int64]) -> NDArray[np.floating]:
    """[T, 3, 3]; one frame of a clip's cameras may stand for all."""
    K = assumed_intrinsics(clip["width"], clip["height"])[None] if clip["K"] is None else clip["K"]
    return np.repeat(K, len(chosen), axis=0) if len(K) == 1 else K[chosen]


def _bytes(crops: Tensor) -> Tensor:
    return (crops * 255).round().to(torch.uint8)
