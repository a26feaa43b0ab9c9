"""Read driving videos for generation, and detect and label the person in them as for training clips.

`model.pipeline` loads these functions through the entry points `opendimo.video_reader` and `opendimo.person_finder`.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from opendimo.model.body.load import load_body
from opendimo.pipelines.engine.stage import DataError
from opendimo.pipelines.people import track_person
from opendimo.pipelines.poses.fit_config import FitConfig
from opendimo.pipelines.poses.label import Label
from opendimo.pipelines.poses.landmarker import Landmarker
from opendimo.pipelines.poses.oneview import one_view_label
from opendimo.pipelines.poses.view import View, view_of
from opendimo.storage_schemas.media.video import decode, probe

Person = dict[str, NDArray[Any]]
"""Same keys as `model.driving.person.Person`."""
FPS = 30.0
"""Default rate, in frames per second, to which videos are subsampled if a model's training rate is unknown."""


def read_video(
    path: Path, count: int, rate: float | None = None, start: float = 0.0
) -> tuple[NDArray[np.uint8], Fraction]:
    """Return the first `count` frames [T, H, W, 3] of a video from `start` on (seconds), subsampled to about `rate`
    (default `FPS`) per second, and their actual rate.

    Every n-th frame is read, so the actual rate differs from `rate` by up to a factor of 1 +- 1 / 2n: a video of 60
    frames per second gives 30 instead of 25, 20 % more. A video slower than `rate` is not subsampled. Frames are not
    interpolated, so the model sees motion slower or faster by that factor. Raises `ValueError` if the video is
    unreadable or too short.
    """
    try:
        info = probe(path)
        step = max(1, round(float(info.fps) / (rate or FPS)))
        first = round(start * info.fps)
        stop = first + (count - 1) * step + 1
        images = decode(path, start=first, stop=stop, step=step, rotation=info.rotation, mirrored=info.mirrored)
        return images, info.fps / step
    except (ValueError, OSError) as error:
        raise ValueError(f"{path}: {error}; choose another driving video") from error


def find_person(frames: NDArray[np.uint8], fps: float, poses: bool = False) -> Person:
    """Detect and label the main person in `frames` [T, H, W, 3] RGB, with the methods used for clips.

    The result has the keys of `model.driving.person.Person`.

    A body is fitted to the landmarks, as for training, because hands are cropped around its joints. Crops around the
    raw landmarks would have 0.90 of the side length of training crops in the median, and 0.69 to 1.29 in 90 % of the
    cases (12 test videos, 90 windows of 17 frames with a hand). Crops around the fitted joints have 1.00, and 0.84 to
    1.18; the rest of the difference is because a clip is smaller than its video and fitted as a whole.

    If no body can be fitted, no hand is valid. Raises `ValueError` if no person is detected or, with `poses`, if no
    body can be fitted.
    """
    with _native_stderr_suppressed():
        track = track_person(frames, fps)
        if track is None or not np.isfinite(track).all(axis=1).any():
            raise ValueError(f"no person was detected in its first {len(frames)} frames")
        landmarks = Landmarker().detect(frames, track)
    view = _view(frames, fps)
    person = {"track": track, "K": np.asarray(view.K, np.float32)}
    try:
        with (
            torch.inference_mode(False),
            torch.enable_grad(),
        ):  # the fit needs gradients; the caller may have disabled them
            return person | _label_arrays(one_view_label(landmarks, view, load_body(None), FitConfig()))
    except DataError as error:
        if poses:
            raise ValueError(str(error)) from error
        return person | _empty_label_arrays(len(frames))


def _label_arrays(label: Label) -> Person:
    """Return the entries of `Person` from a body fitted to the landmarks."""
    return {
        "joints_2d": np.asarray(label.joints_2d, np.float32),
        "landmarks_2d": np.asarray(label.landmarks_2d, np.float32),
        "joints_3d": np.asarray(label.motion.joints, np.float32),
        "body_pose": np.asarray(label.motion.body_pose, np.float32),
        "hand_pose": np.asarray(label.motion.hand_pose, np.float32),
        "valid": label.valid,
        "hand_valid": np.asarray(label.hand_valid, np.float32),
    }


def _empty_label_arrays(frames: int) -> Person:
    """Return the entries of `Person` as for a clip without a pose label: no hand and no pose is valid."""
    shapes: dict[str, tuple[int, ...]] = {"body_pose": (21, 3), "hand_pose": (2, 15, 3)}
    shapes |= dict.fromkeys(("joints_2d", "landmarks_2d", "joints_3d"), (52, 3))
    empty = {name: np.zeros((frames, *shape), np.float32) for name, shape in shapes.items()}
    return empty | {"valid": np.zeros(frames, bool), "hand_valid": np.zeros((frames, 2), np.float32)}


def _view(frames: NDArray[np.uint8], fps: float) -> View:
    """Return the view of an unknown camera."""
    rate = Fraction(fps).limit_denominator(1001)
    count, height, width, _ = frames.shape
    clip = {"frames": count, "width": width, "height": height}
    return view_of(clip | {"fps_num": rate.numerator, "fps_den": rate.denominator})


@contextmanager
def _native_stderr_suppressed() -> Iterator[None]:
    """Redirect file descriptor 2 to /dev/null: MediaPipe's C++ code writes warnings there, regardless of `logging`."""
    sys.stderr.flush()
    saved = os.dup(2)
    try:
        with open(os.devnull, "wb") as null:
            os.dup2(null.fileno(), 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
