"""Coordinates in the centre crop of a driving frame to the target's aspect ratio.

Controls that draw skeletons or bodies draw into this crop, which is cut like the targets themselves. Its coordinates
range from (0, 0) at the upper left corner to (1, 1) at the lower right.
"""

from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray


class Framing(NamedTuple):
    """A centre crop of a frame, in pixels from the frame's upper left corner."""

    left: float
    top: float
    width: float
    height: float

    @classmethod
    def of(cls, frame: tuple[int, int], target: tuple[int, int]) -> Self:
        """Return the largest centre crop of a frame with the aspect ratio of a target, both (width, height)."""
        scale = min(frame[0] / target[0], frame[1] / target[1])
        width, height = target[0] * scale, target[1] * scale
        return cls((frame[0] - width) / 2, (frame[1] - height) / 2, width, height)

    def points(self, pixels: NDArray[np.floating]) -> NDArray[np.float32]:
        """Convert points [..., 2+] from frame pixels to crop coordinates; values after x, y are kept."""
        moved = np.array(pixels, np.float32)
        moved[..., 0] = (moved[..., 0] - self.left) / self.width
        moved[..., 1] = (moved[..., 1] - self.top) / self.height
        return moved

    def intrinsics(self, K: NDArray[np.floating]) -> NDArray[np.float32]:
        """Convert intrinsics `K` [..., 3, 3] from frame pixels to crop coordinates."""
        to_crop = np.array(
            [[1 / self.width, 0, -self.left / self.width], [0, 1 / self.height, -self.top / self.height], [0, 0, 1]]
        )
        return (to_crop @ K).astype(np.float32)
