"""The driving windows of pairs, read from a release: pixels of the person, and pose labels where there are some."""

from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import replace
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from opendimo.model.batch import Driving
from opendimo.model.driving.person import Person, driving_of
from opendimo.model.encoder.config import EncoderConfig
from opendimo.storage_schemas.conventions import assumed_intrinsics
from opendimo.storage_schemas.media.video import decode
from opendimo.training.release import Pair, Release

Row = dict[str, Any]
CLIP_COLUMNS = ["track", "K", "width", "height"]
POSE_COLUMNS = ["body_pose", "hand_pose", "joints_3d", "joints_2d", "valid", "hand_valid"]


def read_drivings(
    release: Release, pairs: Sequence[Pair], encoder: EncoderConfig, target_size: tuple[int, int], threads: Executor
) -> list[Driving]:
    """The `Driving` of each pair: no batch dimension, pictures as bytes (they are kept in memory), labels without NaN.

    Reads each table once and decodes in `threads`. `target_size` (width, height) of the targets. A camera that is not
    known is `assumed_intrinsics`, as it was for whoever labelled the joints. Lens distortion is not in `K`: `joints_2d`
    show it, `joints_3d` projected by `K` do not. Raises `ValueError` where a video ends before its window does, or the
    person is never seen there.
    """
    clip_ids = list(dict.fromkeys(pair.driving_clip_id for pair in pairs))
    pose_ids = list(dict.fromkeys(pair.pose_id for pair in pairs if pair.pose_id is not None))
    videos = dict(zip(clip_ids, release.blobs("clip_videos", "video", clip_ids), strict=True))
    clips = dict(zip(clip_ids, release.rows("clips", clip_ids, CLIP_COLUMNS), strict=True))
    read = release.rows("poses", pose_ids, POSE_COLUMNS) if pose_ids else []
    poses = dict(zip(pose_ids, read, strict=True))

    def one(pair: Pair) -> Driving:
        video, clip = videos[pair.driving_clip_id], clips[pair.driving_clip_id]
        label = None if pair.pose_id is None else poses[pair.pose_id]
        try:
            return _driving(pair, video, clip, label, encoder, target_size)
        except ValueError as error:
            raise ValueError(f"pair {pair.pair_id}, driving clip {pair.driving_clip_id}: {error}") from error

    return list(threads.map(one, pairs))


def _driving(
    pair: Pair, video: bytes, clip: Row, label: Row | None, encoder: EncoderConfig, target_size: tuple[int, int]
) -> Driving:
    chosen = pair.driving_frames
    frames = decode(video, start=int(chosen[0]), stop=int(chosen[-1]) + 1, step=pair.frame_step)  # [T, H, W, 3]
    place = {"track": clip["track"][chosen], "K": _intrinsics(clip, chosen)}
    person = cast(Person, place | (_no_pose(len(chosen)) if label is None else _pose(label, chosen)))
    driving = driving_of(frames, person, encoder, target_size)
    return replace(driving, body=_bytes(driving.body), hands=_bytes(driving.hands))


def _pose(label: Row, chosen: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
    """The label's columns in the window."""
    return {name: np.asarray(label[name])[chosen] for name in POSE_COLUMNS}


def _no_pose(frames: int) -> dict[str, NDArray[Any]]:
    """Zeros, and nothing valid."""
    shapes = {"body_pose": (21, 3), "hand_pose": (2, 15, 3), "joints_3d": (52, 3), "joints_2d": (52, 3)}
    nothing = {"valid": np.zeros(frames, bool), "hand_valid": np.zeros((frames, 2), np.float32)}
    return {name: np.zeros((frames, *shape), np.float32) for name, shape in shapes.items()} | nothing


def _intrinsics(clip: Row, chosen: NDArray[np.int64]) -> NDArray[np.floating]:
    """[T, 3, 3]; one frame of a clip's cameras may stand for all."""
    K = assumed_intrinsics(clip["width"], clip["height"])[None] if clip["K"] is None else clip["K"]
    return np.repeat(K, len(chosen), axis=0) if len(K) == 1 else K[chosen]


def _bytes(crops: Tensor) -> Tensor:
    return (crops * 255).round().to(torch.uint8)
