"""Build the pose label of one clip, and its row of `poses`."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from opendimo.model.body.skeleton import JOINTS
from opendimo.pipelines.poses import quality
from opendimo.pipelines.poses.motion import Motion
from opendimo.pipelines.poses.placement import NEAR
from opendimo.pipelines.poses.view import View
from opendimo.storage_schemas.ids import stable_id

Array = NDArray[np.floating]
FAR_OFF = 0.15
"""A frame is invalid if its fit is farther from its landmarks than this share of the person's height."""


@dataclass(frozen=True)
class Label:
    """A pose label. `motion`: in the camera frame; `joints_2d` [T, 52, 3]: x, y in pixels of the clip and confidence;
    `landmarks_2d` [T, 52, 3]: the same as the landmark model saw them, None for ground truth; `valid` [T], `hand_valid`
    [T, 2], `confidence` [T]; quality metrics as in the table `poses`."""

    motion: Motion
    joints_2d: Array
    landmarks_2d: Array | None
    valid: NDArray[np.bool_]
    hand_valid: NDArray[np.bool_]
    confidence: Array
    reprojection: float | None
    jitter: float | None
    foot_skate: float | None
    bone_drift: float | None
    cross_view: float | None
    weight: float


def in_camera(motion: Motion, view: View) -> Motion:
    """Transform a motion from the world to the camera frame; return it unchanged if the camera is unknown."""
    if view.world_to_camera is None:
        return motion
    R_camera_from_world = Rotation.from_matrix(view.world_to_camera[:, :, :3])
    joints = view.in_camera(motion.joints)
    # SMPL-X rotates about the rest pelvis: the root joint is at rest pelvis + transl for any rotation
    rest_pelvis = motion.joints[:, 0] - motion.transl
    turned = (R_camera_from_world * Rotation.from_rotvec(motion.global_orient)).as_rotvec()
    return Motion(turned, motion.body_pose, motion.hand_pose, joints[:, 0] - rest_pelvis, motion.betas, joints)


def assess(
    motion: Motion,
    view: View,
    *,
    observed: Array | None,
    shape: Array | None,
    found: NDArray[np.bool_],
    hand_valid: NDArray[np.bool_],
    confidence: Array,
    joint_confidence: Array,
    landmarks: Array | None = None,
    fitted: Array | None = None,
    gravity_down: Array | None = None,
    cross_view: float | None = None,
    exact: bool = False,
) -> Label:
    """Compute the quality metrics of a motion and return the label.

    `motion` is in the world if the view is calibrated, else in the camera frame. `observed` [T, P, 3]: pixels of the
    clip and confidence, `fitted` [T, P, 3]: the same points of the fit in the camera frame, `landmarks` [T, P, 3]: what
    the landmark model saw in this view, `shape` [T, P, 4]: observed 3-D points, `found` [T]: frames in which a person
    was detected, `exact`: the motion is ground truth.
    """
    camera_motion = in_camera(motion, view)
    in_front = camera_motion.joints[..., 2:] > NEAR  # joints behind the camera have no pixel
    pixels = np.where(in_front, view.pixels(np.where(in_front, camera_motion.joints, np.array([0.0, 0.0, 1.0]))), 0)
    error, valid = None, found.copy()
    if observed is not None and fitted is not None:
        per_frame = quality.reprojection_per_frame(view.pixels(fitted), observed)
        valid &= np.nan_to_num(per_frame, nan=np.inf) < FAR_OFF
        error = float(np.median(per_frame[valid])) if valid.any() else None
    jitter = quality.jitter(motion.joints[:, :22], view.fps, valid)
    skate = None
    if view.calibrated and gravity_down is not None:
        skate = quality.foot_skate(motion.joints, gravity_down, view.fps, valid)
    drift = None if shape is None else quality.bone_drift(shape)
    confidence = np.where(valid, confidence, 0).clip(0, 1)
    joints_2d = np.concatenate([pixels, joint_confidence[:, : len(JOINTS), None] * in_front], 2)
    # do not penalise jitter in ground truth: a jump is real there
    weight = quality.weight(error, None if exact else jitter, valid, confidence)
    hands = hand_valid & valid[:, None]
    landmarks_2d = None if landmarks is None else landmarks[:, : len(JOINTS)]
    metrics = (error, jitter, skate, drift, cross_view, weight)
    return Label(camera_motion, joints_2d, landmarks_2d, valid, hands, confidence, *metrics)


def pose_row(clip_id: str, work_key: str, estimator: str, licence: str, label: Label) -> dict[str, Any]:
    """Return the row of `poses`."""
    motion = label.motion
    return {
        "pose_id": stable_id("pose", clip_id, work_key, estimator),
        "clip_id": clip_id,
        "estimator": estimator,
        "model_licence": licence,
        "global_orient": np.float32(motion.global_orient),
        "body_pose": np.float32(motion.body_pose),
        "hand_pose": np.float32(motion.hand_pose),
        "transl": np.float32(motion.transl),
        "betas": np.float32(motion.betas),
        "joints_3d": np.float32(motion.joints),
        "joints_2d": np.float32(label.joints_2d),
        "landmarks_2d": None if label.landmarks_2d is None else np.float32(label.landmarks_2d),
        "valid": label.valid.tolist(),
        "hand_valid": np.float32(label.hand_valid),
        "confidence": np.float32(label.confidence),
        "reprojection": label.reprojection,
        "jitter": label.jitter,
        "foot_skate": label.foot_skate,
        "bone_drift": label.bone_drift,
        "cross_view": label.cross_view,
        "weight": label.weight,
    }
