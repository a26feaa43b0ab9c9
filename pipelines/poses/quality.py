"""Quality metrics of a label, and the weight the trainer gives it. Unknown values are None, never NaN."""

import numpy as np
from numpy.typing import NDArray

from opendimo.model.body.skeleton import JOINTS
from opendimo.pipelines.poses.mapping import GROUP

Array = NDArray[np.floating]
Flags = NDArray[np.bool_]

BODY = GROUP[:, None] == 0
LIMBS = [
    (JOINTS.index(f"{side}_{a}"), JOINTS.index(f"{side}_{b}"))
    for side in ("left", "right")
    for a, b in (("shoulder", "elbow"), ("elbow", "wrist"), ("hip", "knee"), ("knee", "ankle"))
]
FEET = [JOINTS.index("left_foot"), JOINTS.index("right_foot")]
PLANTED = 0.03
"""A foot this close to its lowest height counts as planted, metres."""


def reprojection_per_frame(fitted: Array, observed: Array) -> Array:
    """Return the median distance of body points over the size of the person, [T]; NaN where nothing was observed.

    `fitted` [T, P, 2] and `observed` [T, P, 3] (x, y, confidence), pixels.
    """
    observed_points = (observed[..., 2] > 0) & BODY[: observed.shape[1], 0]
    distance = np.where(observed_points, np.linalg.norm(fitted - observed[..., :2], axis=-1), np.nan)
    y = np.where(BODY[: fitted.shape[1], 0], fitted[..., 1], np.nan)
    x = np.where(BODY[: fitted.shape[1], 0], fitted[..., 0], np.nan)
    size = np.maximum(np.nanmax(y, 1) - np.nanmin(y, 1), np.nanmax(x, 1) - np.nanmin(x, 1))
    return _median(distance, 1) / np.maximum(size, 1)


def jitter(joints: Array, fps: float, valid: Flags) -> float | None:
    """Return the median acceleration of the body joints [T, 22, 3] where three frames in a row are valid, m/s^2."""
    if len(joints) < 3:
        return None
    usable = valid[2:] & valid[1:-1] & valid[:-2]
    acceleration = np.linalg.norm(joints[2:] - 2 * joints[1:-1] + joints[:-2], axis=-1) * fps**2
    return _number(acceleration[usable])


def foot_skate(joints: Array, gravity_down: Array, fps: float, valid: Flags) -> float | None:
    """Return the median speed of a planted foot over the ground, m/s. `joints` [T, 52, 3] in a static world frame."""
    feet = joints[:, FEET]  # [T, 2, 3]
    down = np.asarray(gravity_down, float) / np.linalg.norm(gravity_down)
    depth = feet @ down  # larger is lower
    if not valid.any():
        return None
    planted = (depth > np.percentile(depth[valid], 95) - PLANTED) & valid[:, None]
    velocity = np.diff(feet, axis=0) * fps
    along = velocity - (velocity @ down)[..., None] * down
    return _number(np.linalg.norm(along, axis=-1)[planted[1:] & planted[:-1]])


def bone_drift(observed: Array) -> float | None:
    """Return the median relative deviation of limb lengths from their median.

    `observed` [T, P, 4]: x, y, z, confidence.
    """
    deviations = []
    for a, b in LIMBS:
        seen = (observed[:, a, 3] > 0) & (observed[:, b, 3] > 0)
        length = np.linalg.norm(observed[seen, a, :3] - observed[seen, b, :3], axis=-1)
        if len(length) and np.median(length) > 0:
            deviations.append(np.abs(length / np.median(length) - 1))
    return _number(np.concatenate(deviations)) if deviations else None


def weight(reprojection: float | None, jitter: float | None, valid: Flags, confidence: Array) -> float:
    """Return the quality weight for the trainer, 0 to 1.

    It is the share of valid frames x their mean confidence x a factor for the reprojection error (1/2 at 4 % of the
    person's height) x a factor for jitter (1/2 at 40 m/s^2).
    """
    if not valid.any():
        return 0.0
    fit_factor = 1.0 if reprojection is None else 1 / (1 + (reprojection / 0.04) ** 2)
    jitter_factor = 1.0 if jitter is None else 1 / (1 + (jitter / 40) ** 2)
    return float(np.clip(valid.mean() * confidence[valid].mean() * fit_factor * jitter_factor, 0, 1))


def _number(values: Array) -> float | None:
    finite = values[np.isfinite(values)]
    return float(np.median(finite)) if finite.size else None


def _median(values: Array, axis: int) -> Array:
    """Return the median without NaN; NaN, without a warning, for all-NaN slices."""
    empty = ~np.isfinite(values).any(axis)
    filled = np.where(np.expand_dims(empty, axis), 0, values)
    return np.where(empty, np.nan, np.nanmedian(filled, axis))
