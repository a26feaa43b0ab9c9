"""Detect the inner corners of a ChArUco board, identified by the markers between them.

The board is described by `charuco.toml` as caliscope writes it: `columns`, `rows`, `dictionary`, `aruco_scale` (marker
over square), `inverted` (white on black), and the side of a square as `square_size_override_cm`.
"""

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from opendimo.pipelines.engine.stage import DataError
from opendimo.pipelines.rigs.views import Array, RigView, images

MAX_SIDE = 100


@dataclass(frozen=True)
class Board:
    """A board of `columns` x `rows` squares, each `square` metres wide (None: unknown), with markers of `scale` times
    that."""

    columns: int
    rows: int
    dictionary: int
    scale: float
    square: float | None
    inverted: bool

    @property
    def corners(self) -> int:
        """Number of inner corners."""
        return (self.columns - 1) * (self.rows - 1)

    def neighbours(self) -> list[tuple[int, int]]:
        """Return the pairs of corners that are one square apart."""
        ids = np.arange(self.corners).reshape(self.rows - 1, self.columns - 1)
        pairs = [*zip(ids[:, :-1].ravel(), ids[:, 1:].ravel(), strict=True)]
        pairs += [*zip(ids[:-1].ravel(), ids[1:].ravel(), strict=True)]
        return [(int(a), int(b)) for a, b in pairs]


def read_board(path: Path) -> Board:
    """Read the description of a board. Raises `DataError` if the file is not a valid one."""
    try:
        table: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
        columns, rows, name = int(table["columns"]), int(table["rows"]), str(table["dictionary"])
        dictionary, scale = getattr(cv2.aruco, name), float(table["aruco_scale"])
        square = table.get("square_size_override_cm")
        board = Board(columns, rows, dictionary, scale, square and float(square) / 100, bool(table.get("inverted")))
    except (OSError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(f"{path}: not a valid description of a ChArUco board: {error}") from error
    if not (name.startswith("DICT_") and 2 < columns < MAX_SIDE and 2 < rows < MAX_SIDE and 0 < scale < 1):
        raise DataError(
            f"{path}: not a valid ChArUco board: {columns}x{rows} squares with markers of {scale}: check the file"
        )
    return board


def see_board(view: RigView, frames: NDArray[np.int64], board: Board) -> Array:
    """Detect the corners [B, L, C, 3] (x, y, 1 if detected) at `frames` [B, L], in pixels of the video."""
    square = board.square or 1.0
    dictionary = cv2.aruco.getPredefinedDictionary(board.dictionary)
    charuco = cv2.aruco.CharucoBoard((board.columns, board.rows), square, square * board.scale, dictionary)
    detector = cv2.aruco.CharucoDetector(charuco)
    points = np.zeros((*frames.shape, board.corners, 3))
    for b, k, image in images(view, frames):
        gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        corners, ids, _, _ = detector.detectBoard(255 - gray if board.inverted else gray)
        if ids is not None and len(ids):
            points[b, k, ids.ravel(), :2] = corners.reshape(-1, 2) + 0.5  # cv2 has integers at pixel centres
            points[b, k, ids.ravel(), 2] = 1
    return points
