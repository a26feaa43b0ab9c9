"""Estimate the landmarks of one person in a video: `Landmarker(MediaPipe()).detect(frames, track)`."""

from collections.abc import Iterable
from importlib.metadata import version
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from opendimo.pipelines.poses.crops import Windows, follow
from opendimo.pipelines.poses.landmarks import LandmarkConfig, Landmarks, MediaPipe, Rtmlib
from opendimo.pipelines.poses.mediapipe_holistic import Holistic
from opendimo.pipelines.poses.rtmw import WholeBody
from opendimo.storage_schemas.ids import sha256_file


class _Backend(Protocol):
    def start(self) -> None: ...

    def see(self, window: NDArray[np.uint8], found: Landmarks, t: int) -> None: ...


class Landmarker:
    """A loaded landmark model. Raises `ValueError` if its package or weights are missing."""

    def __init__(self, config: LandmarkConfig | None = None) -> None:
        self.config = config or MediaPipe()
        self._backend: _Backend
        match self.config:
            case MediaPipe():
                self._backend = Holistic(self.config)
            case Rtmlib():
                self._backend = WholeBody(self.config)

    def detect(self, frames: Iterable[NDArray[np.uint8]], track: NDArray[np.floating]) -> Landmarks:
        """Estimate the landmarks in T `frames` [H, W, 3] RGB of the person in `track` [T, 4].

        `track` holds x0 y0 x1 y1 pixels, NaN where not visible. Every frame is searched, including those without a box.
        Calls are independent of each other. Raises `ValueError` if `frames` and `track` differ in length.
        """
        landmarks = Landmarks.nothing(len(track))
        if not np.isfinite(track).all(1).any():
            return landmarks
        self._backend.start()
        windows = None
        for t, frame in zip(range(len(track)), frames, strict=True):
            windows = windows or follow(track, frame.shape[1], frame.shape[0])
            self._backend.see(windows.cut(frame, t), landmarks, t)
        assert windows is not None
        return _in_frame(landmarks, windows)


def _in_frame(landmarks: Landmarks, windows: Windows) -> Landmarks:
    """Move points from window to frame coordinates, in place."""
    landmarks.body[landmarks.body_found, :, :2] += windows.origin[landmarks.body_found, None]
    for side in range(2):
        detected = landmarks.hands_found[:, side]
        landmarks.hands[detected, side, :, :2] += windows.origin[detected, None]
    return landmarks


def describe(config: LandmarkConfig) -> tuple[str, str, str]:
    """Return (name, identity of the weights, their licence). Raises `FileNotFoundError` if weights are missing."""
    match config:
        case MediaPipe():
            return "mediapipe", f"mediapipe {version('mediapipe')} holistic", "Apache-2.0"
        case Rtmlib():
            return "rtmw", sha256_file(config.model), "as the RTMW weights given by the user (Apache-2.0 as published)"
