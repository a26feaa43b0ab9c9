"""Where things are in the part of a driving frame that has the target's shape.

Controls that draw (skeletons, bodies) draw into the target's picture: the centre crop of the frame to its aspect ratio,
as targets themselves are cut, counted from (0, 0) in the upper left corner to (1, 1).
"""

from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray


class Framing(NamedTuple):
    """A centre crop of a frame, in pixels of the frame counted from its corner."""

    left: float
    top: float
    width: float
    height: float

    @classmethod
    def of(cls, frame: tuple[int, int], target: tuple[int, int]) -> Self:
        """The largest centre crop of a frame with the aspect ratio of a target, both (width, height)."""
        scale = min(frame[0] / target[0], frame[1] / target[1])
        width, height = target[0] * scale, target[1] * scale
        return cls((frame[0] - width) / 2, (frame[1] - height) / 2, width, height)

    def points(self, pixels: NDArray[np.floating]) -> NDArray[np.float32]:
        """Points [..., 2+] x, y in pixels of the frame, and whatever follows them -> the same in the crop."""
        moved = np.array(pixels, np.float32)
        moved[..., 0] = (moved[..., 0] - self.left) / self.width
        moved[..., 1] = (moved[..., 1] - self.top) / self.height
        return moved

    def intrinsics(self, K: NDArray[np.floating]) -> NDArray[np.float32]:
        """`K` [..., 3, 3] in pixels of the frame -> in the crop."""
        to_crop = np.array(
            [[1 / self.width, 0, -self.left / self.width], [0, 1 / self.height, -self.top / self.height], [0, 0, 1]]
        )
        return (to_crop @ K).astype(np.float32)
