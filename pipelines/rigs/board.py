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
    """Detect the corners [B, L, C, 3] (x, y, 1 if detected) at `frames` [B, L], in pixels of the video.

    A board that is mirrored in the picture is found, too: caliscope prints boards with a mirrored back.
    """
    square = board.square or 1.0
    dictionary = cv2.aruco.getPredefinedDictionary(board.dictionary)
    charuco = cv2.aruco.CharucoBoard((board.columns, board.rows), square, square * board.scale, dictionary)
    detector = cv2.aruco.CharucoDetector(charuco)
    points = np.zeros((*frames.shape, board.corners, 3))
    mirrored = False  # in the frame before
    for b, k, image in images(view, frames):
        gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        gray = 255 - gray if board.inverted else gray
        for flip in (mirrored, not mirrored):
            corners, ids, _, _ = detector.detectBoard(cv2.flip(gray, 1) if flip else gray)
            if ids is None or not len(ids):
                continue
            found = corners.reshape(-1, 2) + 0.5  # cv2 has integers at pixel centres
            if flip:
                found[:, 0] = gray.shape[1] - found[:, 0]
            points[b, k, ids.ravel(), :2], points[b, k, ids.ravel(), 2] = found, 1
            mirrored = flip
            break
    return points


def is_mirrored(points: Array, board: Board) -> bool:
    """Return whether most of the squares in a view show their corners `points` [B, L, C, 3] in mirrored order."""
    grid = points.reshape(-1, board.rows - 1, board.columns - 1, 3)
    corner, right, below = grid[:, :-1, :-1], grid[:, :-1, 1:], grid[:, 1:, :-1]
    across, down = (right - corner)[..., :2], (below - corner)[..., :2]
    known = (corner[..., 2] > 0) & (right[..., 2] > 0) & (below[..., 2] > 0)
    turns = (across[..., 0] * down[..., 1] - across[..., 1] * down[..., 0])[known]
    return bool((turns < 0).sum() > (turns > 0).sum())
