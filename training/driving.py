"""Read the driving windows of pairs from a release: crops of the person, and pose labels if the pair has any."""

from collections.abc import Sequence
from concurrent.futures import Executor
from fractions import Fraction
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from opendimo.model.batch import Driving
from opendimo.model.driving.person import Person, TargetCamera, driving_of, driving_without_images, same_camera
from opendimo.model.encoder.config import EncoderConfig
from opendimo.storage_schemas.conventions import assumed_intrinsics
from opendimo.storage_schemas.media.video import window
from opendimo.storage_schemas.rows import Row
from opendimo.training.release import Pair, Release

CLIP_COLUMNS = ["track", "K", "width", "height", "fps_num", "fps_den"]
CAMERA_COLUMNS = ["world_to_camera", "K", "width", "height"]
POSE_COLUMNS = ["body_pose", "hand_pose", "joints_3d", "joints_2d", "landmarks_2d", "valid", "hand_valid"]


def read_drivings(
    release: Release,
    pairs: Sequence[Pair],
    encoder: EncoderConfig,
    target_size: tuple[int, int],
    threads: Executor,
    images: bool = True,
    cameras: bool = False,
) -> list[Driving]:
    """Return the `Driving` of each pair: no batch dimension, images as uint8, labels without NaN.

    Reads each table once and decodes in `threads`; without `images` it reads no video, without `cameras` no camera of
    targets. `target_size`: (width, height) of the targets. Unknown camera intrinsics are `assumed_intrinsics`, as in
    pose labelling. `K` excludes lens distortion: `joints_2d` include it, `joints_3d` projected by `K` do not. Raises
    `ValueError` if a video ends before its window does, or if the person is never visible in the window.
    """
    clip_ids = list(dict.fromkeys(pair.driving_clip_id for pair in pairs))
    pose_ids = list(dict.fromkeys(pair.pose_id for pair in pairs if pair.pose_id is not None))
    videos = dict(zip(clip_ids, release.blobs("clip_videos", "video", clip_ids), strict=True)) if images else {}
    clips = dict(zip(clip_ids, release.rows("clips", clip_ids, CLIP_COLUMNS), strict=True))
    in_views = list(dict.fromkeys(c for p in pairs for c in (p.driving_clip_id, p.target_clip_id))) if cameras else []
    views = dict(zip(in_views, release.rows("clips", in_views, CAMERA_COLUMNS), strict=True)) if cameras else {}
    pose_rows = release.rows("poses", pose_ids, POSE_COLUMNS) if pose_ids else []
    poses = dict(zip(pose_ids, pose_rows, strict=True))

    def read_one(pair: Pair) -> Driving:
        clip, label = clips[pair.driving_clip_id], None if pair.pose_id is None else poses[pair.pose_id]
        fps, size = Fraction(clip["fps_num"], clip["fps_den"]), (clip["width"], clip["height"])
        try:
            person = _person(pair, clip, label)
            camera = None
            if cameras and pair.driving_clip_id == pair.target_clip_id:
                camera = same_camera(person, size)
            elif cameras:
                camera = _target_camera(pair, views[pair.driving_clip_id], views[pair.target_clip_id])
            if not images:
                return driving_without_images(size, person, target_size, camera)
            chosen = range(pair.driving_start, int(pair.driving_frames[-1]) + 1, pair.frame_step)
            frames = window(videos[pair.driving_clip_id], fps, chosen)
            return driving_of(frames, size, person, encoder, target_size, camera)
        except ValueError as error:
            raise ValueError(f"pair {pair.pair_id}, driving clip {pair.driving_clip_id}: {error}") from error

    return list(threads.map(read_one, pairs))


def _person(pair: Pair, clip: Row, label: Row | None) -> Person:
    chosen = pair.driving_frames
    if chosen[-1] >= len(clip["track"]):
        raise ValueError(f"the window ends with frame {chosen[-1]}, the clip has {len(clip['track'])} frames")
    camera = {"track": clip["track"][chosen], "K": _intrinsics(clip, chosen)}
    return cast(Person, camera | (_no_pose(len(chosen)) if label is None else _pose(label, chosen)))


def _target_camera(pair: Pair, driver: Row, target: Row) -> TargetCamera | None:
    """Return the camera of the target window, from that of the driver; None if one of them is unknown."""
    poses = driver["world_to_camera"], target["world_to_camera"]
    if any(pose is None for pose in poses) or target["K"] is None:
        return None
    from_world, to_target = (
        _chosen(pose, chosen).astype(np.float64)
        for pose, chosen in zip(poses, (pair.driving_frames, pair.target_frames), strict=True)
    )
    rotation = to_target[:, :, :3] @ from_world[:, :, :3].transpose(0, 2, 1)  # [T, 3, 3]
    translation = to_target[:, :, 3] - np.einsum("tij,tj->ti", rotation, from_world[:, :, 3])
    moved = np.concatenate([rotation, translation[..., None]], axis=2)
    return TargetCamera(moved, _intrinsics(target, pair.target_frames), (target["width"], target["height"]))


def _pose(label: Row, chosen: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
    """Return the label's columns at the chosen frames; ground truth is also what a perfect landmark model sees."""
    landmarks = label["joints_2d"] if label["landmarks_2d"] is None else label["landmarks_2d"]
    return {name: np.asarray(values)[chosen] for name, values in (label | {"landmarks_2d": landmarks}).items()}


def _no_pose(frames: int) -> dict[str, NDArray[Any]]:
    """Return label columns of zeros, all marked invalid."""
    shapes: dict[str, tuple[int, ...]] = {"body_pose": (21, 3), "hand_pose": (2, 15, 3)}
    shapes |= dict.fromkeys(("joints_3d", "joints_2d", "landmarks_2d"), (52, 3))
    invalid = {"valid": np.zeros(frames, bool), "hand_valid": np.zeros((frames, 2), np.float32)}
    return {name: np.zeros((frames, *shape), np.float32) for name, shape in shapes.items()} | invalid


def _intrinsics(clip: Row, chosen: NDArray[np.int64]) -> NDArray[np.floating]:
    """Return intrinsics [T, 3, 3] at the chosen frames; a clip may store one matrix for all its frames."""
    K = assumed_intrinsics(clip["width"], clip["height"])[None] if clip["K"] is None else clip["K"]
    return _chosen(K, chosen)


def _chosen(values: NDArray[np.floating], chosen: NDArray[np.int64]) -> NDArray[np.floating]:
    """Return the values [T or 1, ...] at the chosen frames; a single one holds for all frames."""
    return np.repeat(values, len(chosen), axis=0) if len(values) == 1 else values[chosen]
