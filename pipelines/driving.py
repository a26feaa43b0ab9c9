"""A driving video for generation: its frames, the person in them, and where their joints are."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipelines.people import track_person
from pipelines.poses.landmarks import Landmarker
from pipelines.poses.mapping import observe
from storage_schemas.video import decode, probe

JOINTS = 52


@dataclass(frozen=True)
class Driving:
    """`frames` [T, H, W, 3] RGB, `track` [T, 4] box of the person, `joints_2d` [T, 52, 3] x, y, confidence in
    pixels, `hand_valid` [T, 2], `fps` of these frames."""

    frames: NDArray[np.uint8]
    track: NDArray[np.float32]
    joints_2d: NDArray[np.float32]
    hand_valid: NDArray[np.float32]
    fps: Fraction


def read_driving(video: Path, count: int, fps: float = 30.0) -> Driving:
    """The first `count` frames of `video`, thinned out to at most about `fps`, with the person found in them.

    Raises `ValueError` where the video is unreadable, too short, or shows nobody.
    """
    try:
        info = probe(video)
    except ValueError as error:
        raise ValueError(f"{video}: {error}; choose another driving video") from error
    step = max(1, round(float(info.fps) / fps))
    try:
        frames = decode(video, stop=(count - 1) * step + 1, step=step, rotation=info.rotation)
    except ValueError as error:
        raise ValueError(f"{video}: {error}; choose another driving video") from error
    with _without_native_chatter():
        track = track_person(frames, float(info.fps) / step)
        if track is None or not np.isfinite(track).all(axis=1).any():
            raise ValueError(f"{video}: nobody is seen in its first {count} frames; choose another driving video")
        found = Landmarker().detect(frames, track)
    return Driving(
        frames, track, observe(found).pixels[:, :JOINTS], found.hands_found.astype(np.float32), info.fps / step
    )


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
