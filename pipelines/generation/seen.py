"""Estimate a person's joints and the camera motion of a clip, to evaluate generated clips."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from opendimo.model.body.skeleton import JOINTS
from opendimo.pipelines.cameras.image_motion import image_motion
from opendimo.pipelines.cameras.terms import words
from opendimo.pipelines.generation.driving import _native_stderr_suppressed
from opendimo.pipelines.poses.landmarker import Landmarker
from opendimo.pipelines.poses.mapping import observe

Array = NDArray[np.floating]
Frames = NDArray[np.uint8]


def joint_finder() -> Callable[[Frames, Array], NDArray[Any]]:
    """Return a function that maps frames [T, H, W, 3] and boxes of a person [T, 4] to joints [T, 52, 3].

    Joints are x, y, confidence; the confidence is 0 if a joint is not detected. The landmark model is loaded once, at
    the first call.
    """
    loaded: list[Landmarker] = []

    def find(frames: Frames, track: Array) -> NDArray[Any]:
        with _native_stderr_suppressed():
            if not loaded:
                loaded.append(Landmarker())
            landmarks = loaded[0].detect(frames, track)
        return observe(landmarks).pixels[:, : len(JOINTS)]

    return find


def camera_moves(frames: Frames, fps: float, track: Array, focal_over_width: float | None) -> set[str]:
    """Return the camera terms estimated from the frames; empty if undetermined.

    `track` [T, 4]: boxes of the foreground, which is ignored; NaN for frames without one.
    """
    return set(words(image_motion(frames, fps, track, focal_over_width).terms))
