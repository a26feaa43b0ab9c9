"""Read the driving windows of pairs from a release: crops of the person, and pose labels if the pair has any."""

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
from opendimo.storage_schemas.rows import Row
from opendimo.training.release import Pair, Release

CLIP_COLUMNS = ["track", "K", "width", "height"]
POSE_COLUMNS = ["body_pose", "hand_pose", "joints_3d", "joints_2d", "valid", "hand_valid"]


def read_drivings(
    release: Release, pairs: Sequence[Pair], encoder: EncoderConfig, target_size: tuple[int, int], threads: Executor
) -> list[Driving]:
    """Return the `Driving` of each pair: no batch dimension, images as uint8 (to be cached), labels without NaN.

    Reads each table once and decodes in `threads`. `target_size`: (width, height) of the targets. Unknown camera
    intrinsics are `assumed_intrinsics`, as in pose labelling. `K` excludes lens distortion: `joints_2d` include it,
    `joints_3d` projected by `K` do not. Raises `ValueError` if a video ends before its window does, or if the person
    is never visible in the window.
    """
    clip_ids = list(dict.fromkeys(pair.driving_clip_id for pair in pairs))
    pose_ids = list(dict.fromkeys(pair.pose_id for pair in pairs if pair.pose_id is not None))
    videos = dict(zip(clip_ids, release.blobs("clip_videos", "video", clip_ids), strict=True))
    clips = dict(zip(clip_ids, release.rows("clips", clip_ids, CLIP_COLUMNS), strict=True))
    pose_rows = release.rows("poses", pose_ids, POSE_COLUMNS) if pose_ids else []
    poses = dict(zip(pose_ids, pose_rows, strict=True))

    def read_one(pair: Pair) -> Driving:
        video, clip = videos[pair.driving_clip_id], clips[pair.driving_clip_id]
        label = None if pair.pose_id is None else poses[pair.pose_id]
        try:
            return _driving(pair, video, clip, label, encoder, target_size)
        except ValueError as error:
            raise ValueError(f"pair {pair.pair_id}, driving clip {pair.driving_clip_id}: {error}") from error

    return list(threads.map(read_one, pairs))


def _driving(
    pair: Pair, video: bytes, clip: Row, label: Row | None, encoder: EncoderConfig, target_size: tuple[int, int]
) -> Driving:
    chosen = pair.driving_frames
    frames = decode(video, start=int(chosen[0]), stop=int(chosen[-1]) + 1, step=pair.frame_step)  # [T, H, W, 3]
    camera = {"track": clip["track"][chosen], "K": _intrinsics(clip, chosen)}
    person = cast(Person, camera | (_no_pose(len(chosen)) if label is None else _pose(label, chosen)))
    driving = driving_of(frames, person, encoder, target_size)
    return replace(driving, body=_to_bytes(driving.body), hands=_to_bytes(driving.hands))


def _pose(label: Row, chosen: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
    """Return the label's columns at the chosen frames."""
    return {name: np.asarray(label[name])[chosen] for name in POSE_COLUMNS}


def _no_pose(frames: int) -> dict[str, NDArray[Any]]:
    """Return label columns of zeros, all marked invalid."""
    shapes = {"body_pose": (21, 3), "hand_pose": (2, 15, 3), "joints_3d": (52, 3), "joints_2d": (52, 3)}
    invalid = {"valid": np.zeros(frames, bool), "hand_valid": np.zeros((frames, 2), np.float32)}
    return {name: np.zeros((frames, *shape), np.float32) for name, shape in shapes.items()} | invalid


def _intrinsics(clip: Row, chosen: NDArray[np.int64]) -> NDArray[np.floating]:
    """Return intrinsics [T, 3, 3] at the chosen frames; a clip may store one matrix for all its frames."""
    K = assumed_intrinsics(clip["width"], clip["height"])[None] if clip["K"] is None else clip["K"]
    return np.repeat(K, len(chosen), axis=0) if len(K) == 1 else K[chosen]


def _to_bytes(crops: Tensor) -> Tensor:
    return (crops * 255).round().to(torch.uint8)
