"""Estimate camera terms from the motion of the background, for videos without known cameras.

Corners outside the person's box are tracked from frame to frame (Shi-Tomasi, pyramidal Lucas-Kanade). The motion that
most of them share is explained by yaw, pitch, roll and zoom of a camera; its focal length is assumed if unknown. This
estimator cannot distinguish translation from rotation and zoom: a truck looks like a pan, a dolly like a zoom. It
therefore reports only static, shake, pan, tilt, roll and zoom, and how much of the optical flow these leave
unexplained.
"""

from collections.abc import Iterable
from functools import partial
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from opendimo.pipelines.cameras.terms import (
    FOCAL_OVER_WIDTH,
    CameraMotion,
    jitter,
    move_terms,
    shake_terms,
    smooth_rates,
    with_holds,
    words,
)

Array = NDArray[np.floating]

SHORT_SIDE = 270  # pixels of the analysed picture
CORNERS = 300
BOX_MARGIN = 0.15  # share of the box added on every side: limbs leave the box before the track follows
ROUND_TRIP = 0.5  # maximum distance in pixels of a corner tracked forward and back from where it started
INLIER = 1.0  # pixels
SLACK = 0.05  # inlier tolerance as a share of the flow, for the linearisation error in fast turns
REFINEMENTS = 3
MIN_INLIERS = 20
MIN_INLIER_SHARE = 0.3
MIN_STEPS_SEEN = 0.8  # share of the frame steps that must be measured
SHAKE_RMS = 0.0035  # radians (0.2 degrees): above the jitter of the tracked corners themselves
MUCH_UNEXPLAINED = 0.3  # measured: below 0.2 for cameras that turn and zoom, above 0.35 for cameras that travel
AXES = ("yaw", "pitch", "roll", "zoom")


def image_motion(
    frames: Iterable[NDArray[np.uint8]],
    fps: float,
    track: Array | None = None,
    focal_over_width: float = FOCAL_OVER_WIDTH,
) -> CameraMotion:
    """Estimate the terms of the camera motion from `frames` [H, W, 3] RGB.

    `track` [T, 4]: the person's box per frame in pixels of the frames, NaN where not visible. `focal_over_width`: focal
    length in picture widths. Returns no terms if there is too little background to measure (noted in the evidence).
    """
    steps, residuals, flows, corners = [], [], [], []
    before = None
    count = 0
    for count, frame in enumerate(frames, start=1):
        scale = min(1.0, SHORT_SIDE / min(frame.shape[:2]))
        grey: Any = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
        grey = cv2.resize(grey, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) if scale < 1 else grey
        if before is not None:
            box = None if track is None else track[count - 2] * scale
            start, end = tracked_corners(before, grey, box)
            step, residual = turn_and_zoom(start, end, grey.shape[1], grey.shape[0], focal_over_width)
            steps.append(step)
            residuals.append(residual)
            flows.append(float(np.median(np.linalg.norm(end - start, axis=1))) if len(start) else 0.0)
            corners.append(len(start))
        before = grey
    if count < 2:
        return CameraMotion("image_motion", (), {"frames": count, "note": "fewer than two frames"})

    raw = np.array(steps) * fps  # [T-1, 4] per second
    seen = np.isfinite(raw).all(axis=1)
    evidence: dict[str, Any] = {
        "frames": count,
        "steps_measured": round(float(seen.mean()), 3),
        "background_corners": float(np.median(corners)),
        "focal_over_width": round(focal_over_width, 3),
    }
    if seen.mean() < MIN_STEPS_SEEN:
        return CameraMotion("image_motion", (), evidence | {"note": "too little background to tell"})
    at = np.arange(len(raw))
    raw = np.stack([np.interp(at, at[seen], column[seen]) for column in raw.T], axis=1)
    smooth, unrest = smooth_rates(raw, fps), jitter(raw, fps)
    terms = move_terms(dict(zip(AXES, smooth.T, strict=True)), dict(zip(AXES, unrest.T, strict=True)), fps)
    terms += shake_terms(unrest, smooth, fps, SHAKE_RMS)

    net = raw.sum(axis=0) / fps
    moving = np.array(flows) > 0.3  # pixels; below that the unexplained share is noise
    unexplained = np.nansum(np.array(residuals)[moving]) / max(np.sum(np.array(flows)[moving]), 1e-6)
    note = "parallax not judged: a pan may be a truck, a zoom a dolly"
    if unexplained > MUCH_UNEXPLAINED and not words(terms) <= {"shake"}:
        note += "; turning and zooming leave much unexplained, so the camera may travel"
    evidence |= {
        "net_degrees": {name: round(float(np.degrees(v)), 3) for name, v in zip(AXES, net[:3], strict=False)},
        "zoom_factor": round(float(np.exp(net[3])), 4),
        "jitter_degrees": round(float(np.degrees(np.median(np.linalg.norm(unrest[:, :3], axis=1)))), 4),
        "unexplained_flow": round(float(unexplained), 3),
        "note": note,
    }
    return CameraMotion("image_motion", with_holds(terms, count, fps), evidence)


def tracked_corners(before: NDArray[np.uint8], after: NDArray[np.uint8], box: Array | None) -> tuple[Array, Array]:
    """Track corners of `before` [H, W] outside `box` (x0 y0 x1 y1) into `after`: [N, 2], [N, 2] pixels."""
    mask = np.full(before.shape, 255, dtype=np.uint8)
    if box is not None and np.isfinite(box).all():
        x0, y0, x1, y1 = box
        dx, dy = BOX_MARGIN * (x1 - x0), BOX_MARGIN * (y1 - y0)
        mask[max(0, int(y0 - dy)) : max(0, int(y1 + dy) + 1), max(0, int(x0 - dx)) : max(0, int(x1 + dx) + 1)] = 0
    corners = cv2.goodFeaturesToTrack(before, CORNERS, 0.01, 7, mask=mask)
    if corners is None:
        return np.zeros((0, 2)), np.zeros((0, 2))
    track: Any = partial(cv2.calcOpticalFlowPyrLK, winSize=(15, 15), maxLevel=3)
    ahead, ok, _ = track(before, after, corners, None)
    back, ok_back, _ = track(after, before, ahead, None)
    start, end, returned = (points.reshape(-1, 2) for points in (corners, ahead, back))
    good = (ok.ravel() == 1) & (ok_back.ravel() == 1) & (np.linalg.norm(start - returned, axis=1) < ROUND_TRIP)
    return start[good], end[good]


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
