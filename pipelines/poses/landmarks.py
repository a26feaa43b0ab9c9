"""Whole-body landmarks of one person per frame, and the configurations of the landmark models.

There are 33 body and 2 x 21 hand points in MediaPipe's order. Points that a model does not provide have confidence 0.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BODY, HAND = 33, 21


@dataclass(frozen=True)
class MediaPipe:
    """MediaPipe Holistic 0.10.14, whose models come with the wheel (Apache-2.0). `complexity`: must be 1, the only body
    model in the wheel. `min_confidence`: minimum confidence of detection and of tracking."""

    complexity: int = 1
    min_confidence: float = 0.5


@dataclass(frozen=True)
class Rtmlib:
    """An RTMW whole-body model (133 COCO-WholeBody points, no depth) through the package `rtmlib`.

    `model`: path of the .onnx file. `input_width`, `input_height`: input size with which the model was exported."""

    model: str
    input_width: int = 288
    input_height: int = 384
    device: str = "cpu"


LandmarkConfig = MediaPipe | Rtmlib


@dataclass(frozen=True)
class Landmarks:
    """Points of one person over T frames; all zero where nothing was detected, never NaN.

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
        """Return empty landmarks of `frames` frames, to be filled in."""
        flags = [np.zeros(frames, bool), np.zeros(frames, bool), np.zeros((frames, 2), bool)]
        body, world = np.zeros((frames, BODY, 4), np.float32), np.zeros((frames, BODY, 3), np.float32)
        return Landmarks(body, world, np.zeros((frames, 2, HAND, 4), np.float32), *flags)
