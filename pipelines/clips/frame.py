"""A decoded frame, with its conversions cached."""

from functools import cached_property
from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray

from opendimo.storage_schemas.media.video import Picture, to_luma, to_rgb

Image = NDArray[np.uint8]


class Frame:
    """A decoded frame of a source.

    `number`: index in the source. `picture`: at clip size, in the pixel format of the codec. `small`: [h, w, 3] BGR at
    analysis size.
    """

    def __init__(self, number: int, picture: Picture, small: Image) -> None:
        self.number, self.picture, self.small = number, picture, small

    @cached_property
    def gray(self) -> Image:
        """Grey values [h, w] at analysis size."""
        return np.asarray(cv2.cvtColor(self.small, cv2.COLOR_BGR2GRAY), np.uint8)

    @cached_property
    def image(self) -> Image:
        """RGB [H, W, 3] at clip size. Expensive, so it is computed only for frames that the detector reads."""
        return to_rgb(self.picture)

    @property
    def hdr_share(self) -> float | None:
        """Share of pixels that SDR cannot show, if the frame was converted to SDR."""
        return cast(float | None, self.picture.opaque)

    @property
    def luma(self) -> Image:
        """Luma [H, W] at clip size, without a copy."""
        return to_luma(self.picture)
