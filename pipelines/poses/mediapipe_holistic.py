"""MediaPipe Holistic as a landmark back end: detects the body, then hands at the body's wrists."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from opendimo.pipelines.poses.landmarks import Landmarks, MediaPipe


class Holistic:
    """Tracker of a single person from frame to frame; `start` resets it.

    Landmarks are not smoothed here: MediaPipe's filter is causal and lags, while the fit smooths in both directions.
    """

    def __init__(self, config: MediaPipe) -> None:
        from mediapipe.python.solutions.holistic import Holistic as Solution

        self._solution = Solution(
            model_complexity=config.complexity,
            smooth_landmarks=False,
            min_detection_confidence=config.min_confidence,
            min_tracking_confidence=config.min_confidence,
        )

    def start(self) -> None:
        """Reset the tracker before a new clip."""
        self._solution.reset()

    def see(self, window: NDArray[np.uint8], found: Landmarks, t: int) -> None:
        """Fill in frame `t` of `found` from `window` [h, w, 3] RGB, in window pixels."""
        answer = self._solution.process(window)
        if answer.pose_landmarks is None:
            return
        height, width = window.shape[:2]
        scale = np.array([width, height, width], np.float32)  # landmark coordinates are normalised to the image size
        body = _points(answer.pose_landmarks)
        found.body[t] = np.concatenate([body[:, :3] * scale, body[:, 3:]], 1)
        found.body_found[t] = True
        if answer.pose_world_landmarks is not None:
            found.world[t] = _points(answer.pose_world_landmarks)[:, :3]
            found.world_found[t] = True
        for side, hand in enumerate((answer.left_hand_landmarks, answer.right_hand_landmarks)):
            if hand is not None:
                found.hands[t, side, :, :3] = _points(hand)[:, :3] * scale
                found.hands[t, side, :, 3] = 1
                found.hands_found[t, side] = True


def _points(landmarks: Any) -> NDArray[np.float32]:
    """Convert MediaPipe's landmark list to [N, 4]: x, y, z, visibility."""
    return np.array([(p.x, p.y, p.z, p.visibility) for p in landmarks.landmark], np.float32)
