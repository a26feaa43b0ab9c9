"""What a clip shows, for whoever judges clips that a model made: a person's joints, and how the camera moves."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from opendimo.model.body.skeleton import JOINTS
from opendimo.pipelines.cameras.image_motion import image_motion
from opendimo.pipelines.cameras.terms import FOCAL_OVER_WIDTH, words
from opendimo.pipelines.generation.driving import _without_native_chatter
from opendimo.pipelines.poses.landmarker import Landmarker
from opendimo.pipelines.poses.mapping import observe

Array = NDArray[np.floating]
Frames = NDArray[np.uint8]


def joint_finder() -> Callable[[Frames, Array], NDArray[Any]]:
    """A function of frames [T, H, W, 3] and boxes of a person [T, 4]: their joints [T, 52, 3] as x, y, confidence,
    which is 0 where none is found. The landmark model is loaded once, with the first clip."""
    ready: list[Landmarker] = []

    def find(frames: Frames, track: Array) -> NDArray[Any]:
        with _without_native_chatter():
            if not ready:
                ready.append(Landmarker())
            landmarks = ready[0].detect(frames, track)
        return observe(landmarks).pixels[:, : len(JOINTS)]

    return find


def camera_moves(frames: Frames, fps: float, track: Array, focal_over_width: float | None) -> set[str]:
    """Camera terms that the picture shows: static, shake, pan, tilt, roll, zoom; none where it cannot tell.

    `track` [T, 4]: what is no background, NaN for nothing.
    """
    return set(words(image_motion(frames, fps, track, focal_over_width or FOCAL_OVER_WIDTH).terms))
