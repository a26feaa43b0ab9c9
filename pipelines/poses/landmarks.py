"""Whole-body landmarks of one person per frame: 33 body and 2 x 21 hand points in MediaPipe's order.

Usable alone: `Landmarker(MediaPipe()).detect(frames, track)`. Back ends are frozen configs; a landmark that a back end
does not know has confidence 0.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from opendimo.pipelines.poses.crops import Windows, follow
from opendimo.storage_schemas.ids import sha256_file

BODY, HAND = 33, 21


@dataclass(frozen=True)
class MediaPipe:
    """MediaPipe Holistic 0.10.14, whose models come with the wheel (Apache-2.0). `complexity`: 1, the only body
    model in the wheel. `min_confidence`: least confidence of detection and of tracking."""

    complexity: int = 1
    min_confidence: float = 0.5


@dataclass(frozen=True)
class Rtmlib:
    """An RTMW whole-body model (133 COCO-WholeBody points, no depth) through the package `rtmlib`.

    `model`: path of the .onnx file. `input_width`, `input_height`: as the model was exported."""

    model: str
    input_width: int = 288
    input_height: int = 384
    device: str = "cpu"


LandmarkConfig = MediaPipe | Rtmlib


@dataclass(frozen=True)
class Landmarks:
    """Points of one person over T frames; all zero where nothing was found, never NaN.

    `body` [T, 33, 4]: x, y in frame pixels, z in about the same scale (smaller is nearer, 0 at the hips), confidence.
    `world` [T, 33, 3]: metres about the hips, axes as the camera's (x right, y down, z away); zero where unknown.
    `hands` [T, 2, 21, 4]: left, right; x, y, z (0 at the wrist), confidence as in `body`.
    `body_found` [T], `world_found` [T], `hands_found` [T, 2]: bool.
    """

    body: NDArray[np.float32]
    world: NDArray[np.float32]
    hands: NDArray[np.float32]
    body_found: NDArray[np.bool_]
    world_found: NDArray[np.bool_]
    hands_found: NDArray[np.bool_]

    @staticmethod
    def nothing(frames: int) -> "Landmarks":
        """Landmarks of `frames` frames in which nothing was found (to be filled in)."""
        flags = [np.zeros(frames, bool), np.zeros(frames, bool), np.zeros((frames, 2), bool)]
        body, world = np.zeros((frames, BODY, 4), np.float32), np.zeros((frames, BODY, 3), np.float32)
        return Landmarks(body, world, np.zeros((frames, 2, HAND, 4), np.float32), *flags)


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
                from opendimo.pipelines.poses.mediapipe_holistic import Holistic

                self._backend = Holistic(self.config)
            case Rtmlib():
                from opendimo.pipelines.poses.rtmw import WholeBody

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
            from importlib.metadata import version

            return "mediapipe", f"mediapipe {version('mediapipe')} holistic", "Apache-2.0"
        case Rtmlib():
            return "rtmw", sha256_file(config.model), "as the RTMW weights given by the user (Apache-2.0 as published)"
