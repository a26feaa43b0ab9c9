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
    """A landmark model, ready to use in this process. Raises `ValueError` where its package or weights are absent."""

    def __init__(self, config: LandmarkConfig | None = None) -> None:
        self.config = config or MediaPipe()
        self._backend: _Backend
        match self.config:
            case MediaPipe():
                self._backend = Holistic(self.config)
            case Rtmlib():
                self._backend = WholeBody(self.config)

    def detect(self, frames: Iterable[NDArray[np.uint8]], track: NDArray[np.floating]) -> Landmarks:
        """Landmarks in T `frames` [H, W, 3] RGB of the person in `track` [T, 4] (x0 y0 x1 y1 pixels, NaN: unseen).

        The person is looked for in every frame, also where the track does not see them. Each call starts anew.
        Raises `ValueError` where frames and track differ in number.
        """
        found = Landmarks.nothing(len(track))
        if not np.isfinite(track).all(1).any():
            return found
        self._backend.start()
        windows = None
        for t, frame in zip(range(len(track)), frames, strict=True):
            windows = windows or follow(track, frame.shape[1], frame.shape[0])
            self._backend.see(windows.cut(frame, t), found, t)
        assert windows is not None
        return _in_frame(found, windows)


def _in_frame(found: Landmarks, windows: Windows) -> Landmarks:
    """Move points from window to frame coordinates, in place."""
    found.body[found.body_found, :, :2] += windows.origin[found.body_found, None]
    for side in range(2):
        seen = found.hands_found[:, side]
        found.hands[seen, side, :, :2] += windows.origin[seen, None]
    return found


def describe(config: LandmarkConfig) -> tuple[str, str, str]:
    """(name, identity of the weights, their licence). Raises `FileNotFoundError` where weights are absent."""
    match config:
        case MediaPipe():
            return "mediapipe", f"mediapipe {version('mediapipe')} holistic", "Apache-2.0"
        case Rtmlib():
            return "rtmw", sha256_file(config.model), "as the RTMW weights given by the user (Apache-2.0 as published)"
