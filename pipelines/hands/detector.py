"""Detect hands in one image, with or without a body: MediaPipe's palm and landmark models (arXiv 2006.10214)."""

from collections.abc import Iterator
from importlib.metadata import version

import numpy as np
from numpy.typing import NDArray

from opendimo.pipelines.people.boxes import Box

WEIGHTS = f"mediapipe {version('mediapipe')} palm_detection_full, hand_landmark_full"
"""Identity of the weights, which come with the wheel of this version (Apache-2.0)."""
MAX_HANDS = 4  # maximum number of hands in one image

Image = NDArray[np.uint8]  # [H, W, 3], RGB
Hands = NDArray[np.float32]  # [N, 21, 2]: landmarks of N hands, pixels


class HandDetector:
    """Detects hands in single images, without a tracker: results do not depend on other images.

    `min_confidence`: minimum score of a palm, and of the hand that the landmark model then finds there, 0 to 1.
    """

    def __init__(self, min_confidence: float) -> None:
        from mediapipe.python.solutions.hands import Hands as Solution

        self._solution = Solution(
            static_image_mode=True,
            max_num_hands=MAX_HANDS,
            min_detection_confidence=min_confidence,
            min_tracking_confidence=min_confidence,
        )

    def detect(self, image: Image) -> Hands:
        """Return the hands in `image`. Those smaller than about a twentieth of its longer side are missed."""
        answer = self._solution.process(np.ascontiguousarray(image))
        hands = [[(point.x, point.y) for point in hand.landmark] for hand in answer.multi_hand_landmarks or []]
        return np.array(hands, np.float32).reshape(-1, 21, 2) * np.array(image.shape[1::-1], np.float32)

    def search(self, image: Image, person: Box | None) -> Iterator[Hands]:
        """Yield the hands in the whole image, then in the box of the `person`, then in smaller and smaller parts of it.

        The search is lazy: its later, finer parts are needed only for hands that are small in the image. A part yields
        hands that others yielded before.
        """
        for x0, y0, x1, y1 in _regions(image.shape[1], image.shape[0], person):
            yield self.detect(image[y0:y1, x0:x1]) + np.array([x0, y0], np.float32)


def sizes(hands: Hands) -> NDArray[np.float32]:
    """Return the longer sides of the boxes around the landmarks of each hand [N], pixels."""
    return np.asarray((hands.max(1) - hands.min(1)).max(1), np.float32)


def _regions(width: int, height: int, person: Box | None) -> Iterator[tuple[int, int, int, int]]:
    """Yield x0 y0 x1 y1 of the image, of the person's box, and of tiles of half its longer side, which overlap by half
    or more: a hand is about a ninth of a standing person's height."""
    yield 0, 0, width, height
    if person is None:
        return
    low, high = np.floor(person[:2]).astype(int), np.ceil(person[2:]).astype(int)
    low, high = np.clip(low, 0, (width, height)), np.clip(high, 0, (width, height))
    if (high <= low).any():
        return
    yield int(low[0]), int(low[1]), int(high[0]), int(high[1])
    side = int(np.ceil((high - low).max() / 2))
    for y in _starts(low[1], high[1], side):
        for x in _starts(low[0], high[0], side):
            yield x, y, min(x + side, high[0]), min(y + side, high[1])


def _starts(low: int, high: int, side: int) -> list[int]:
    """Return the starts of tiles of `side` that overlap by half or more and cover `low` to `high`."""
    count = max(0, -(-2 * (high - low - side) // side)) + 1
    return [int(start) for start in np.linspace(low, max(low, high - side), count)]
