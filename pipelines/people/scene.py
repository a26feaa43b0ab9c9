"""Tell where a frame shows something else than an earlier one, so that a still background is searched only once."""

import cv2
import numpy as np
from numpy.typing import NDArray

from opendimo.pipelines.people.boxes import Box

SIDE = 90
"""Short side of the frames that are compared, in pixels: the smallest person who is searched for is 11 of them tall."""
WINDOW = 5  # side of the squares whose mean difference is taken, pixels at `SIDE`
CHANGED = 8.0  # grey levels that the mean of a square differs by, beyond noise and compression
REACH = 0.25  # how far a person and their shadow may move beyond a box, over its longer side


class Scene:
    """A frame in which people were searched for, and the `boxes` of those who were found."""

    def __init__(self, image: NDArray[np.uint8], boxes: list[Box]) -> None:
        """`image` [H, W, 3] RGB."""
        self._scale = min(1.0, SIDE / min(image.shape[:2]))
        self._gray = self._small(image)
        self._boxes = boxes

    def same_around(self, image: NDArray[np.uint8], person: Box) -> bool:
        """Return whether `image` [H, W, 3] RGB differs at most where people were found, and around `person`."""
        difference = cv2.absdiff(self._small(image), self._gray).astype(np.float32)
        changed = cv2.blur(difference, (WINDOW, WINDOW)) > CHANGED  # [h, w]
        for box in [*self._boxes, person]:
            reach = REACH * (box[2:] - box[:2]).max()
            low = np.floor((box[:2] - reach) * self._scale).astype(int).clip(0)
            high = np.ceil((box[2:] + reach) * self._scale).astype(int).clip(0)
            changed[low[1] : high[1], low[0] : high[0]] = False
        return not changed.any()

    def _small(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        size = round(image.shape[1] * self._scale), round(image.shape[0] * self._scale)
        return np.asarray(
            cv2.cvtColor(cv2.resize(image, size, interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY), np.uint8
        )
