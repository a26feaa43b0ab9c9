"""Draw a label on a frame: the skeleton (the person's left orange, right blue, middle green), body, landmarks."""

import cv2
import numpy as np
from numpy.typing import NDArray

from opendimo.model.body.skeleton import BONES, JOINTS

LEFT, RIGHT, MIDDLE = (255, 140, 0), (40, 130, 255), (60, 220, 60)
FIRST_HAND_JOINT = 22
SKIN, OPACITY = (200, 120, 255), 0.4
SEEN = (255, 255, 90)


def draw_skeleton(
    frame: NDArray[np.uint8], joints_2d: NDArray[np.floating], *, hands: tuple[bool, bool] = (True, True)
) -> NDArray[np.uint8]:
    """Return a copy of `frame` [H, W, 3] RGB with `joints_2d` [52, 3] (x, y pixels, confidence) drawn on it.

    Bones that were not observed (confidence 0 at an end) are thin. `hands`: whether to draw the (left, right) hand.
    """
    image = np.ascontiguousarray(frame).copy()
    thickness = max(1, round(min(image.shape[:2]) / 240))
    for parent, child in BONES:
        name = JOINTS[child]
        colour = LEFT if name.startswith("left") else RIGHT if name.startswith("right") else MIDDLE
        of_hand = child >= FIRST_HAND_JOINT
        if of_hand and not hands[int(name.startswith("right"))]:
            continue
        ends = joints_2d[[parent, child]]
        if not np.isfinite(ends).all() or np.abs(ends[:, :2]).max() > 4 * max(image.shape):
            continue
        observed = not of_hand and ends[:, 2].min() > 0
        a, b = (tuple(int(v) for v in np.floor(end[:2])) for end in ends)
        cv2.line(image, a, b, colour, thickness + 1 if observed else max(1, thickness // 2), cv2.LINE_AA)
        if not of_hand:
            cv2.circle(image, b, thickness + 1, colour, -1, cv2.LINE_AA)
    return image


def draw_body(
    frame: NDArray[np.uint8], vertices_2d: NDArray[np.floating], faces: NDArray[np.integer]
) -> NDArray[np.uint8]:
    """Return a copy of `frame` [H, W, 3] RGB with the outline of a body's surface filled, half transparent.

    `vertices_2d` [V, 2]: pixels. `faces` [F, 3]: indices of the corners of the triangles.
    """
    mask = np.zeros(frame.shape[:2], np.uint8)
    far = 4 * max(frame.shape)
    triangles = np.round(vertices_2d.clip(-far, far)).astype(np.int32)[faces]  # [F, 3, 2]
    for triangle in triangles:
        cv2.fillConvexPoly(mask, triangle, 255)
    inside = mask > 0
    image = frame.copy()
    image[inside] = ((1 - OPACITY) * frame[inside] + OPACITY * np.array(SKIN)).astype(np.uint8)
    return image


def draw_landmarks(frame: NDArray[np.uint8], landmarks_2d: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Return a copy of `frame` [H, W, 3] RGB with a cross at each of `landmarks_2d` [P, 3] that was seen (confidence
    above 0)."""
    image = np.ascontiguousarray(frame).copy()
    size = max(4, round(min(image.shape[:2]) / 60))
    for x, y, confidence in landmarks_2d:
        if confidence > 0 and abs(x) + abs(y) < 4 * max(image.shape):
            at = (int(np.floor(x)), int(np.floor(y)))
            cv2.drawMarker(image, at, SEEN, cv2.MARKER_TILTED_CROSS, size, 1, cv2.LINE_AA)
    return image
