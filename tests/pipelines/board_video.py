"""Render a video of a ChArUco board that moves in front of a camera."""

from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np

from opendimo.storage_schemas.media.video import encode

SIZE = (640, 360)
K = np.array([[450.0, 0, 320], [0, 450, 180], [0, 0, 1]])
COLUMNS, ROWS, SQUARE, SCALE = 5, 4, 0.2, 0.75
DESCRIPTION = f"""columns = {COLUMNS}
rows = {ROWS}
dictionary = "DICT_4X4_50"
aruco_scale = {SCALE}
square_size_override_cm = {100 * SQUARE}
"""
PIXELS = 400
"""Pixels per metre of the drawn board."""


def board_video(path: Path, pose: np.ndarray, facing: float, frames: int, late: int) -> None:
    """Write a video of the board 1 m above the ground, rotated by `facing` radians about the vertical.

    `pose` [3, 4]: the camera, which is `late` by this many frames.
    """
    dictionary = cv2.aruco.getPredefinedDictionary(cv2.aruco.DICT_4X4_50)
    board = cv2.aruco.CharucoBoard((COLUMNS, ROWS), SQUARE, SQUARE * SCALE, dictionary)
    drawn = board.generateImage((round(COLUMNS * SQUARE * PIXELS), round(ROWS * SQUARE * PIXELS)))
    right = np.array([-np.sin(facing), np.cos(facing), 0])  # as seen from in front of it
    metres = np.diag([1 / PIXELS, 1 / PIXELS, 1])

    def picture(moment: float) -> np.ndarray:
        phase = 2 * np.pi * moment / 45
        corner = np.array([0.2 * np.cos(phase), 0.2 * np.sin(phase), 1.4 + 0.1 * np.sin(2 * phase)]) - 0.5 * right
        plane = np.stack([right, [0, 0, -1], corner], axis=1) @ metres  # pixels of the drawing -> world
        seen = K @ (pose[:, :3] @ plane + np.outer(pose[:, 3], [0, 0, 1]))
        gray = cv2.warpPerspective(drawn, seen, SIZE, flags=cv2.INTER_AREA, borderValue=128)
        return np.asarray(cv2.cvtColor(gray, cv2.COLOR_GRAY2RGB))

    path.write_bytes(encode((picture(k - late) for k in range(frames)), Fraction(30)))
