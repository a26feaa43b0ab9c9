"""A frame on its way through the cut."""

from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray

from opendimo.storage_schemas.media.video import Picture, to_luma, to_rgb

Image = NDArray[np.uint8]


class Frame:
    """Number in the source, the picture at clip size as the codec holds it, and [h, w, 3] BGR at analysis size."""

    def __init__(self, number: int, picture: Picture, small: Image) -> None:
        self.number, self.picture, self.small = number, picture, small

    @cached_property
    def gray(self) -> Image:
        """[h, w] at analysis size."""
        return np.asarray(cv2.cvtColor(self.small, cv2.COLOR_BGR2GRAY), np.uint8)

    @cached_property
    def image(self) -> Image:
        """[H, W, 3] RGB at clip size: dear, so only of frames that are looked at."""
        return to_rgb(self.picture)

    @property
    def luma(self) -> Image:
        """[H, W] at clip size; no copy."""
        return to_luma(self.picture)
