"""Estimate how the camera's motion moves the image between two frames, so that tracks can follow it."""

import cv2
import numpy as np
from numpy.typing import NDArray

Gray = NDArray[np.uint8]  # [h, w]
Similarity = NDArray[np.float64]  # [2, 3]: rotation and scale, then translation, of image points

STILL = np.eye(2, 3)
SIDE = 180
"""Short side of the frames that are compared, in pixels."""
CORNERS = 200
MIN_INLIERS = 12
"""Minimum number of corners that move together."""
MAX_ERROR = 2.0  # pixels at `SIDE`, of a corner that moves with the others
MAX_ZOOM = 1.4  # between two looks; more is a wrong estimate
BETTER = 0.8  # maximum difference of the frames after the camera's motion, over their difference before it
MIN_SHARED = 0.3  # minimum share of the frame that is in view before and after


def camera_motion(before: NDArray[np.uint8], after: NDArray[np.uint8]) -> Similarity:
    """Return the similarity that maps points of the image `before` to the image `after`, both [H, W, 3] RGB.

    Estimates are the shift of the whole frame (phase correlation), and the motion of most of its corners (optical flow
    and RANSAC, as in BoT-SORT, arXiv 2206.14651) from there and from rest: a shaken camera moves further than the flow
    searches. The one after which the two frames differ least is returned; the identity if that is hardly less than
    before, because then a person moved, not the camera.
    """
    scale = min(1.0, SIDE / min(before.shape[:2]))
    first, second = _gray(before, scale), _gray(after, scale)
    shift = _shift(first, second)
    estimates = [shift, *(_of_corners(first, second, start) for start in (STILL, shift))]
    motion = min((e for e in estimates if e is not None), key=lambda e: _difference(first, second, e))
    if _difference(first, second, motion) > BETTER * _difference(first, second, STILL):
        return STILL
    return np.concatenate([motion[:, :2], motion[:, 2:] / scale], axis=1)


def _gray(image: NDArray[np.uint8], scale: float) -> Gray:
    size = round(image.shape[1] * scale), round(image.shape[0] * scale)
    return np.asarray(cv2.cvtColor(cv2.resize(image, size, interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY), np.uint8)


def _shift(before: Gray, after: Gray) -> Similarity:
    window = cv2.createHanningWindow(before.shape[::-1], cv2.CV_32F)
    (x, y), _ = cv2.phaseCorrelate(before.astype(np.float32), after.astype(np.float32), window)
    return np.array([[1, 0, x], [0, 1, y]])


def _of_corners(before: Gray, after: Gray, start: Similarity) -> Similarity | None:
    """Return the similarity of most corners, whose search begins where the translation `start` takes them."""
    corners = cv2.goodFeaturesToTrack(before, CORNERS, qualityLevel=0.01, minDistance=4)  # [n, 1, 2]
    if corners is None:
        return None
    guess = corners + start[:, 2].astype(np.float32)
    moved, found, _ = cv2.calcOpticalFlowPyrLK(before, after, corners, guess, flags=cv2.OPTFLOW_USE_INITIAL_FLOW)
    kept = found.ravel() == 1
    if kept.sum() < MIN_INLIERS:
        return None
    motion, inliers = cv2.estimateAffinePartial2D(corners[kept], moved[kept], ransacReprojThreshold=MAX_ERROR)
    if motion is None or inliers.sum() < MIN_INLIERS:
        return None
    zoom = np.hypot(*motion[:, 0])
    return motion if 1 / MAX_ZOOM < zoom < MAX_ZOOM else None


def _difference(before: Gray, after: Gray, motion: Similarity) -> float:
    """Return the mean absolute difference in grey levels after `motion`, where both frames show the scene."""
    size = before.shape[::-1]
    shared = cv2.warpAffine(np.ones_like(before), motion, size, flags=cv2.INTER_NEAREST).astype(bool)
    if shared.mean() < MIN_SHARED:
        return np.inf
    return float(cv2.absdiff(cv2.warpAffine(before, motion, size), after)[shared].mean())
