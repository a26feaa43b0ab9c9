"""Estimate how a camera turned and zoomed between two frames from matched points: the fine motion, such as shake."""

import cv2
import numpy as np
from numpy.typing import NDArray

from opendimo.pipelines.cameras.terms import FOCAL_OVER_WIDTH

Array = NDArray[np.floating]

INLIER = 1.0  # pixels
SLACK = 0.05  # inlier tolerance as a share of the flow, for the linearisation error in fast turns
REFINEMENTS = 3
MIN_INLIERS = 20
MIN_INLIER_SHARE = 0.3


def turn_and_zoom(
    start: Array, end: Array, width: int, height: int, focal_over_width: float = FOCAL_OVER_WIDTH
) -> tuple[Array, float]:
    """Estimate yaw (+ right), pitch (+ up), roll (+ clockwise) in radians and ln of the zoom between two frames.

    Takes matched points [N, 2]; also returns the median distance in pixels of all points from this model. NaN if there
    are too few inliers. RANSAC on a similarity transform selects the points that move together; their flow is then
    solved for the rotation and zoom of a camera. The similarity itself is not used: it would report a pan over ground
    seen in perspective as a roll.
    """
    unknown = np.full(4, np.nan), np.nan
    if len(start) < MIN_INLIERS:
        return unknown
    least = max(MIN_INLIERS, MIN_INLIER_SHARE * len(start))
    _, ransac_inliers = cv2.estimateAffinePartial2D(start, end, method=cv2.RANSAC, ransacReprojThreshold=INLIER)
    focal = focal_over_width * width
    middle = (start + end) / 2  # linear about the middle of the step: exact to second order
    x, y = ((middle - [(width - 1) / 2, (height - 1) / 2]) / focal).T
    one, zero = np.ones_like(x), np.zeros_like(x)
    # the image moves opposite to the camera; y points down
    across = np.stack([-one - x * x, x * y, y, x], axis=1)  # [N, 4]: horizontal flow per unit of yaw, pitch, roll, zoom
    down = np.stack([-x * y, one + y * y, -x, y], axis=1)
    design = np.stack([across, down], axis=1)  # [N, 2, 4]
    flow = (end - start) / focal  # [N, 2]
    tolerance = max(INLIER, SLACK * float(np.median(np.linalg.norm(end - start, axis=1)))) / focal
    inliers = zero.astype(bool) if ransac_inliers is None else ransac_inliers.ravel() == 1
    distance = zero
    for _ in range(REFINEMENTS):
        if inliers.sum() < least:
            return unknown
        step = np.linalg.lstsq(design[inliers].reshape(-1, 4), flow[inliers].ravel(), rcond=None)[0]
        distance = np.linalg.norm(design @ step - flow, axis=1)
        inliers = distance <= tolerance
    return step, float(np.median(distance) * focal)
