"""Driving videos for generation: their frames, and the person in them, found and labelled as clips are.

The entry points `opendimo.video_reader` and `opendimo.person_finder`, by which `model.pipeline` knows them.
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
"""As `model.driving.person.Person`."""
FPS = 30.0
"""About how many frames a second are read at most where nobody knows at which rate a model was trained."""


def read_video(path: Path, count: int, rate: float | None = None) -> tuple[NDArray[np.uint8], Fraction]:
    """The first `count` frames [T, H, W, 3] of a video, thinned out to about `rate` (`FPS`) a second, and how many are
    then a second.

    Every n-th frame is taken, so what is read differs by up to a factor of 1 +- 1 / 2n, 20 % for 30 of 60 where 25 are
    asked for, and a video slower than `rate` is read whole. Nothing is interpolated: to the model the same motion is
    then that much slower or faster. Raises `ValueError` where the video is unreadable or too short.
    """
    try:
        info = probe(path)
        step = max(1, round(float(info.fps) / (rate or FPS)))
        return decode(path, stop=(count - 1) * step + 1, step=step, rotation=info.rotation), info.fps / step
    except (ValueError, OSError) as error:
        raise ValueError(f"{path}: {error}; choose another driving video") from error


def find_person(frames: NDArray[np.uint8], fps: float, poses: bool = False) -> Person:
    """The main person in `frames` [T, H, W, 3] RGB, as `model.driving.person.Person`, found and labelled as clips are.

    A body is fitted to the landmarks, as for training, because hands are cropped around its joints. Around the
    landmarks themselves crops would have 0.90 of the sides of those in training in the median, and 0.69 to 1.29 in nine
    tenths of the cases (12 test videos, 90 windows of 17 frames with a hand); around the fit they have 1.00, and 0.84
    to 1.18: a clip is smaller than its video, and fitted as a whole.

    Where no body can be fitted no hand is valid. Raises `ValueError` where nobody is seen, and with `poses` where no
    body can be fitted.
    """
    with _without_native_chatter():
        track = track_person(frames, fps)
        if track is None or not np.isfinite(track).all(axis=1).any():
            raise ValueError(f"nobody is seen in its first {len(frames)} frames")
        landmarks = Landmarker().detect(frames, track)
    view = _view(frames, fps)
    person = {"track": track, "K": np.asarray(view.K, np.float32)}
    try:
        with torch.inference_mode(False), torch.enable_grad():  # the caller may generate without gradients
            return person | _labelled(one_view_label(landmarks, view, load_body(None), FitConfig()))
    except DataError as error:
        if poses:
            raise ValueError(str(error)) from error
        return person | _unlabelled(len(frames))


def _labelled(label: Label) -> Person:
    """What a body fitted to the landmarks tells."""
    return {
        "joints_2d": np.asarray(label.joints_2d, np.float32),
        "joints_3d": np.asarray(label.motion.joints, np.float32),
        "body_pose": np.asarray(label.motion.body_pose, np.float32),
        "hand_pose": np.asarray(label.motion.hand_pose, np.float32),
        "valid": label.valid,
        "hand_valid": np.asarray(label.hand_valid, np.float32),
    }


def _unlabelled(frames: int) -> Person:
    """As a clip without a pose label: no hand and no pose is valid."""
    shapes = {"joints_2d": (52, 3), "joints_3d": (52, 3), "body_pose": (21, 3), "hand_pose": (2, 15, 3)}
    empty = {name: np.zeros((frames, *shape), np.float32) for name, shape in shapes.items()}
    return empty | {"valid": np.zeros(frames, bool), "hand_valid": np.zeros((frames, 2), np.float32)}


def _view(frames: NDArray[np.uint8], fps: float) -> View:
    """Of a camera of which nothing is known."""
    rate = Fraction(fps).limit_denominator(1001)
    count, height, width, _ = frames.shape
    clip = {"frames": count, "width": width, "height": height}
    return view_of(clip | {"fps_num": rate.numerator, "fps_den": rate.denominator})


@contextmanager
def _without_native_chatter() -> Iterator[None]:
    """MediaPipe's C++ side writes warnings to file descriptor 2, whatever Python's logging is set to."""
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
