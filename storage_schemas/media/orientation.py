"""Turn stored pictures upright, as the display matrix of a file asks.

There are eight cases: the picture is mirrored left to right or not, and then rotated clockwise by 0, 90, 180 or 270
degrees. FFmpeg's command shows a file in the same way.
"""

from math import atan2, degrees, hypot
from typing import cast

import numpy as np
from av.sidedata.sidedata import SideDataContainer, Type
from av.video.frame import VideoFrame
from numpy.typing import NDArray

Image = NDArray[np.uint8]
TURNS: dict[int, list[tuple[str, str]]] = {
    0: [],
    90: [("transpose", "clock")],
    180: [("hflip", ""), ("vflip", "")],
    270: [("transpose", "cclock")],
}
"""Filters of libavfilter, as (name, arguments), by clockwise rotation in degrees."""


def orientation(frame: VideoFrame) -> tuple[int, bool]:
    """Return what makes a stored frame upright: the clockwise rotation (0, 90, 180, 270), and whether the frame is
    mirrored left to right before it.

    Other angles are rounded. A matrix that maps the picture to a line is ignored.
    """
    side_data = cast(SideDataContainer, frame.side_data)  # the stub of PyAV declares another type
    if Type.DISPLAYMATRIX not in side_data:
        return 0, False
    # x' = a x + c y, y' = b x + d y; x to the right, y down
    a, b, _, c, d = (float(value) for value in np.frombuffer(bytes(side_data[Type.DISPLAYMATRIX]), np.int32)[:5])
    across, down = hypot(a, c), hypot(b, d)
    if not across or not down:
        return 0, False
    mirrored = a * d < b * c
    angle = atan2(-b / down, -a / across) if mirrored else atan2(b / down, a / across)
    return round(degrees(angle) / 90) % 4 * 90, mirrored


def filters(rotation: int, mirrored: bool) -> list[tuple[str, str]]:
    """Return the filters that make a stored frame upright."""
    return [*([("hflip", "")] if mirrored else []), *TURNS[rotation]]


def upright(image: Image, rotation: int, mirrored: bool) -> Image:
    """Return an upright copy of a stored picture [H, W] or [H, W, C]; the picture itself if nothing changes."""
    if not rotation and not mirrored:
        return image
    flipped = image[:, ::-1] if mirrored else image
    return np.ascontiguousarray(np.rot90(flipped, -rotation // 90))  # np.rot90 rotates counter-clockwise


def turned(size: tuple[int, int], rotation: int) -> tuple[int, int]:
    """Return the size (width, height) after a rotation, which is also the size before it."""
    return (size[1], size[0]) if rotation in (90, 270) else size
