"""Render contact sheets: a few frames of a clip with the tracked box and the labelled skeleton drawn on them."""

import cv2
import numpy as np
from numpy.typing import NDArray

from opendimo.pipelines.poses.overlay import draw_skeleton
from opendimo.storage_schemas.media.video import decode
from opendimo.storage_schemas.rows import Row

Image = NDArray[np.uint8]
TILES = 6
GAP = 4
LANDSCAPE, PORTRAIT = (3, 272), (6, 160)  # tiles per row, width of a tile in pixels
THUMBNAIL = 240
BOX = (255, 80, 210)
GROUND = 24  # background luma between tiles


def contact_sheet(video: bytes, clip: Row, pose: Row | None) -> Image:
    """Render evenly spaced frames of a clip as a grid [H, W, 3] RGB. Raises `ValueError` if the video is unreadable."""
    columns, width = LANDSCAPE if clip["width"] >= clip["height"] else PORTRAIT
    count = min(TILES, clip["frames"])
    step = clip["frames"] // count
    first = (clip["frames"] - step * (count - 1)) // 2
    size = (width, even(width * clip["height"] / clip["width"]))
    frames = decode(video, start=first, stop=first + step * (count - 1) + 1, step=step, size=size)
    return grid([annotate(image, clip, pose, first + k * step) for k, image in enumerate(frames)], columns)


def thumbnail(video: bytes, clip: Row, frame: int) -> Image:
    """Return a frame of a clip with the tracked box. Raises `ValueError` if the video is unreadable."""
    size = (THUMBNAIL, even(THUMBNAIL * clip["height"] / clip["width"]))
    return annotate(decode(video, start=frame, stop=frame + 1, size=size)[0], clip, None, frame)


def annotate(image: Image, clip: Row, pose: Row | None, frame: int) -> Image:
    """Draw the tracked box, the skeleton and the frame number on `image`, which is frame `frame` at any size."""
    scale = np.array([image.shape[1] / clip["width"], image.shape[0] / clip["height"]])
    image = image.copy()
    if clip["track"] is not None and np.isfinite(box := clip["track"][frame]).all():
        x0, y0, x1, y1 = (int(v) for v in np.round(box * np.tile(scale, 2)))
        cv2.rectangle(image, (x0, y0), (x1, y1), BOX, 2)
    if pose is not None and pose["valid"][frame]:
        joints = pose["joints_2d"][frame].copy()  # [52, 3]
        joints[:, :2] *= scale
        left, right = pose["hand_valid"][frame] > 0
        image = draw_skeleton(image, joints, hands=(bool(left), bool(right)))
    for colour, thickness in (((0, 0, 0), 3), ((255, 255, 255), 1)):
        cv2.putText(
            image, str(frame), (5, image.shape[0] - 7), cv2.FONT_HERSHEY_SIMPLEX, 0.4, colour, thickness, cv2.LINE_AA
        )
    return image


def grid(tiles: list[Image], columns: int) -> Image:
    """Arrange equally large tiles [h, w, 3] in rows of `columns`, with a dark gap between them."""
    height, width, _ = tiles[0].shape
    columns = min(columns, len(tiles))
    rows = -(-len(tiles) // columns)  # ceil
    sheet = np.full((rows * (height + GAP) - GAP, columns * (width + GAP) - GAP, 3), GROUND, np.uint8)
    for k, tile in enumerate(tiles):
        y, x = k // columns * (height + GAP), k % columns * (width + GAP)
        sheet[y : y + height, x : x + width] = tile
    return sheet


def even(value: float) -> int:
    """Round to a positive even number, as video needs."""
    return max(2, round(value / 2) * 2)
