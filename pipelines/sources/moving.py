"""The cameras of a video's frames, from the cameras of images that were taken out of it."""

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation, Slerp

from opendimo.pipelines.engine.stage import DataError
from opendimo.pipelines.sources.calibration import Array, Camera

MAX_GAP = 10
"""Frames in a row without a pose that are filled in between their neighbours, as every k-th frame is often all that a
reconstruction was made of. A longer gap is no camera path any more."""


def on_frames(camera: Camera, K: Array, frames: int | None, where: str) -> tuple[Array, Array]:
    """`K` [T, 3, 3] and `world_to_camera` [T, 3, 4] of a video of `frames`; T = 1 for a camera that stands.

    As many images as frames are the frames in order; else images are numbered from 0, or as FFmpeg does from 1.
    Inside, gaps of at most `MAX_GAP` frames are filled by interpolation (turning at constant speed between neighbours).
    Raises `DataError` that names the frames without a pose where the gap is longer, or at an end.
    """
    if camera.numbers is None:
        return K, camera.world_to_camera
    if frames is None:
        raise DataError(f"{where}: the video does not say how many frames it has: copy it into an MP4")
    numbers = np.array(camera.numbers)
    places = np.arange(frames) if len(numbers) == frames else numbers - min(1, int(numbers[0]))
    if places[-1] >= frames:
        raise DataError(f"{where}: there is a camera for image {numbers[-1]}, but the video has {frames} frames")
    missing = np.setdiff1d(np.arange(frames), places)
    gaps = np.diff(places) - 1
    if places[0] or places[-1] != frames - 1 or gaps.max(initial=0) > MAX_GAP:
        raise DataError(
            f"{where}: {len(missing)} of {frames} frames have no camera ({_spans(missing)}): cut the video to what "
            f"has one (gaps of up to {MAX_GAP} inside are filled), or reconstruct the rest"
        )
    return _between(places, K, camera.world_to_camera, frames)


def _between(places: NDArray[np.int64], K: Array, pose: Array, frames: int) -> tuple[Array, Array]:
    """Camera centres and lenses change linearly, orientations at constant speed."""
    if len(places) == frames:
        return K, pose
    steps = np.arange(frames)
    R = Slerp(places, Rotation.from_matrix(pose[:, :, :3]))(steps).as_matrix()
    centres = -np.einsum("nji,nj->ni", pose[:, :, :3], pose[:, :, 3])
    moved = _linear(steps, places, centres)
    t = -np.einsum("tij,tj->ti", R, moved)
    return _linear(steps, places, K.reshape(-1, 9)).reshape(-1, 3, 3), np.concatenate([R, t[..., None]], 2)


def _linear(steps: NDArray[np.int64], places: NDArray[np.int64], values: Array) -> Array:
    return np.stack([np.interp(steps, places, column) for column in values.T], 1)


def _spans(missing: NDArray[np.int64], most: int = 5) -> str:
    """`3-9, 20`: what is missing, shortened."""
    runs = np.split(missing, np.flatnonzero(np.diff(missing) > 1) + 1)
    words = [str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs if len(run)]
    return ", ".join(words[:most]) + (", ..." if len(words) > most else "")
