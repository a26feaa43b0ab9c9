"""Measure how much of a person is visible, from body landmarks or from the true joints of a render."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

VISIBLE = 0.5  # minimum visibility according to the landmark model
# MediaPipe's 33 landmarks: shoulders, elbows, wrists, hips, knees, ankles
LIMBS = [11, 12, 13, 14, 15, 16, 23, 24, 25, 26, 27, 28]
# the same of SMPL's 22 joints
TRUE_LIMBS = [16, 17, 18, 19, 20, 21, 1, 2, 4, 5, 7, 8]


class Visibility(NamedTuple):
    """Visibility in one frame: share of the 12 limb joints that are visible (`body`), share of all landmarks outside
    the image (`outside`), and 1 if any is outside, else 0 (`crosses`)."""

    body: float
    outside: float
    crosses: float


def of_landmarks(landmarks: NDArray[np.float32], size: tuple[int, int]) -> Visibility:
    """Return the visibility for MediaPipe's landmarks [33, 3] (x, y pixels, visibility); `size` (width, height)."""
    within = _within(landmarks[:, :2], size)
    seen = within & (landmarks[:, 2] > VISIBLE)
    return _visibility(within, seen, LIMBS)


def of_joints(pixels: NDArray[np.float32], size: tuple[int, int]) -> Visibility:
    """Return the visibility for true joints [J, 2] (SMPL's order, NaN behind the camera); visible if in the image."""
    within = _within(pixels, size)
    return _visibility(within, within, TRUE_LIMBS)


def mean(seen: list[Visibility]) -> dict[str, float | None]:
    """Average over frames into the columns of a clip; null if there are no measurements."""
    names = ("body_visible", "truncation", "at_border")
    if not seen:
        return dict.fromkeys(names)
    return dict(zip(names, np.mean(seen, axis=0).tolist(), strict=True))


def _within(points: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.bool_]:
    return np.asarray(((points >= 0) & (points < np.array(size))).all(-1))


def _visibility(within: NDArray[np.bool_], seen: NDArray[np.bool_], limbs: list[int]) -> Visibility:
    outside = float(1 - within.mean())
    return Visibility(float(seen[limbs].mean()), outside, float(outside > 0))
