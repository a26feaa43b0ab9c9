"""A driving video for generation: its frames, the person in them, and where their joints are."""

from dataclasses import dataclass
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
    pixels, `hand_valid` [T, 2]."""

    frames: NDArray[np.uint8]
    track: NDArray[np.float32]
    joints_2d: NDArray[np.float32]
    hand_valid: NDArray[np.bool_]


def read_driving(video: Path, num_frames: int, seconds_per_frame: float) -> Driving:
    """The first `num_frames` frames of `video` at about the frame rate of training, with the person found in them.

    Raises `ValueError` where the video is unreadable, too short, or shows nobody.
    """
    info = probe(video)
    step = max(1, round(seconds_per_frame * float(info.fps)))
    span = (num_frames - 1) * step + 1
    try:
        frames = decode(video, stop=span, rotation=info.rotation)
    except ValueError as error:
        raise ValueError(f"{video}: {error}; at least {span} frames are needed") from error
    track = track_person(frames, float(info.fps))
    if track is None or not np.isfinite(track).all(axis=1).any():
        raise ValueError(f"{video}: nobody is seen in its first {span} frames; choose another driving video")
    frames, track = frames[::step], track[::step]
    found = Landmarker().detect(frames, track)
    return Driving(frames, track, observe(found).pixels[:, :JOINTS], found.hands_found)
