"""Per-frame cameras of a video, from the cameras of images extracted from it."""

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation, Slerp

from opendimo.pipelines.engine.stage import DataError
from opendimo.pipelines.sources.calibration import Array, Camera

MAX_GAP = 10
"""Longest run of frames without a pose that is interpolated: reconstructions often use every k-th frame only.

Interpolation over a longer gap would be too inaccurate.
"""


def on_frames(camera: Camera, K: Array, frames: int | None) -> tuple[Array, Array]:
    """Return `K` [T, 3, 3] and `world_to_camera` [T, 3, 4] of a video of `frames` frames; T = 1 for a static camera.

    If there are as many images as frames, they are the frames in order; otherwise image numbers count frames from 0, or
    from 1 as FFmpeg does. Gaps of at most `MAX_GAP` frames between images are interpolated (rotation at constant
    speed). Raises `DataError` naming the frames without a pose in longer gaps and at the ends of the video.
    """
    if camera.numbers is None:
        return K, camera.world_to_camera
    if frames is None:
        raise DataError("the container does not state the number of frames: remux the video to MP4")
    numbers = np.array(camera.numbers)
    posed = np.arange(frames) if len(numbers) == frames else numbers - min(1, int(numbers[0]))  # frames with a pose
    if posed[-1] >= frames:
        raise DataError(f"there is a camera for image {numbers[-1]}, but the video has {frames} frames")
    missing = np.setdiff1d(np.arange(frames), posed)
    after = np.searchsorted(posed, missing)  # index of the next frame with a pose
    gap = np.diff(posed, prepend=-np.inf, append=np.inf)[after] - 1  # number of frames in the same gap
    if (lacking := missing[gap > MAX_GAP]).size:
        raise DataError(
            f"{len(lacking)} of {frames} frames have no camera ({_spans(lacking)}): cut the video to frames with a "
            f"camera (gaps of up to {MAX_GAP} frames are interpolated), or reconstruct the missing ones"
            + _every_nth(numbers, frames)
        )
    return _interpolated(posed, K, camera.world_to_camera, frames)


def _every_nth(numbers: NDArray[np.int64], frames: int) -> str:
    """Return advice if the images seem to be every n-th frame, but are numbered without gaps."""
    if len(numbers) < 2 or (np.diff(numbers) != 1).any() or frames < 1.5 * len(numbers):
        return ""
    share = frames / len(numbers)
    return f"; its images are numbered without gaps: if they are one in {share:.3g} frames, number them by their frames"


def _interpolated(posed: NDArray[np.int64], K: Array, pose: Array, frames: int) -> tuple[Array, Array]:
    """Interpolate camera centres and intrinsics linearly, and orientations at constant angular speed."""
    if len(posed) == frames:
        return K, pose
    steps = np.arange(frames)
    R = Slerp(posed, Rotation.from_matrix(pose[:, :, :3]))(steps).as_matrix()
    centres = -np.einsum("nji,nj->ni", pose[:, :, :3], pose[:, :, 3])
    t = -np.einsum("tij,tj->ti", R, _linear(steps, posed, centres))
    return _linear(steps, posed, K.reshape(-1, 9)).reshape(-1, 3, 3), np.concatenate([R, t[..., None]], 2)


def _linear(steps: NDArray[np.int64], posed: NDArray[np.int64], values: Array) -> Array:
    return np.stack([np.interp(steps, posed, column) for column in values.T], 1)


def _spans(missing: NDArray[np.int64], most: int = 5) -> str:
    """Format frame numbers as ranges, `3-9, 20`, at most `most` of them."""
    runs = np.split(missing, np.flatnonzero(np.diff(missing) > 1) + 1)
    words = [str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs if len(run)]
    return ", ".join(words[:most]) + (", ..." if len(words) > most else "")
