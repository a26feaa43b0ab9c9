"""Label renders with their ground truth, transformed to the camera frame. Only missing parts are estimated."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from opendimo.model.body.load import Body
from opendimo.model.body.skeleton import JOINTS
from opendimo.pipelines.engine.stage import DataError
from opendimo.pipelines.poses.fit import fit
from opendimo.pipelines.poses.fit_config import FitConfig
from opendimo.pipelines.poses.label import Label, assess
from opendimo.pipelines.poses.mapping import POINTS
from opendimo.pipelines.poses.motion import Motion
from opendimo.pipelines.poses.objective import Target
from opendimo.pipelines.poses.placement import NEAR
from opendimo.pipelines.poses.view import View

Array = NDArray[np.floating]
BODY_JOINTS = 22
ELBOWS, WRISTS = (18, 19), (20, 21)
IN_FRAME = 0.5
"""Minimum share of body joints inside the image in a valid frame."""
ROTATIONS = ("truth_global_orient", "truth_body_pose", "truth_betas")


def has_truth(source: dict[str, Any]) -> bool:
    """Return whether a row of `sources` has ground-truth body motion."""
    has_joints = source.get("truth_joints") is not None
    return has_joints or all(source.get(name) is not None for name in (*ROTATIONS, "truth_transl"))


def truth_label(
    clip: dict[str, Any], source: dict[str, Any], view: View, body: Body, config: FitConfig, gravity_down: Array | None
) -> Label:
    """Return the label of the person in the clip's track.

    Raises `DataError` if the clip has no cameras, or its frame count differs from that of the truth.
    """
    if not view.calibrated:
        raise DataError(
            f"{clip['name']}: true motion without cameras cannot be projected into the clip: add its cameras"
        )
    span = slice(clip["start_frame"], clip["end_frame"])
    people = _people(source, span, body, config, view.fps)
    for motion in people:
        if len(motion.joints) != clip["frames"]:
            raise DataError(
                f"{clip['name']}: the truth has {len(motion.joints)} frames in [{span.start}, {span.stop}), "
                f"the clip {clip['frames']}: check the labels' frame count"
            )
    motion = people[0] if len(people) == 1 else max(people, key=lambda p: _overlap(p, clip["track"], view))
    joints_camera = view.in_camera(motion.joints)
    in_front = joints_camera[..., 2] > NEAR
    inside = in_front & view.inside(
        view.pixels(np.where(in_front[..., None], joints_camera, np.array([0.0, 0.0, 1.0])))
    )  # [T, 52]
    valid = inside[:, :BODY_JOINTS].mean(1) >= IN_FRAME
    hands = np.stack([inside[:, 22:37].all(1), inside[:, 37:].all(1)], 1)
    if source.get("truth_hand_pose") is None:
        hands[:] = False
    return assess(
        motion,
        view,
        observed=None,
        shape=None,
        found=valid,
        hand_valid=hands,
        confidence=np.ones(len(inside)),
        joint_confidence=inside.astype(np.float32),
        gravity_down=gravity_down,
        exact=True,
    )


def _people(source: dict[str, Any], span: slice, body: Body, config: FitConfig, fps: float) -> list[Motion]:
    """Return the motion of every body in the world over the frames of `span`."""
    joints = source.get("truth_joints")
    if joints is not None and joints.shape[2] not in (BODY_JOINTS, len(JOINTS)):
        raise DataError(f"{source['name']}: {joints.shape[2]} true joints, expected {BODY_JOINTS} or {len(JOINTS)}")
    rotations = [source.get(name) for name in ROTATIONS]
    if any(r is None for r in rotations):
        assert joints is not None
        return [_fitted(person[span], body, config, fps) for person in joints]
    transl, hands = source.get("truth_transl"), source.get("truth_hand_pose")
    motions = []
    for p, (orient, pose, betas) in enumerate(zip(*rotations, strict=True)):
        hand = np.zeros((len(orient), 2, 15, 3), np.float32) if hands is None else hands[p]
        motions.append(
            _motion(
                body, orient[span], pose[span], hand[span], betas,
                None if transl is None else transl[p, span], None if joints is None else joints[p, span],
            )
        )  # fmt: skip
    return motions


def _motion(
    body: Body, orient: Array, pose: Array, hands: Array, betas: Array, transl: Array | None, joints: Array | None
) -> Motion:
    """Convert true parameters to a motion with the true `joints` (if given), placed by the true root joint."""
    shape = betas[: body.num_betas]
    rest_pelvis = body.rest_joints(torch.tensor(shape))[0].numpy()
    at_root = joints[:, 0] - rest_pelvis if joints is not None else transl
    assert at_root is not None
    with torch.no_grad():
        posed = body.joints(*(torch.tensor(np.float32(a)) for a in (orient, pose, hands, at_root, shape))).numpy()
    if joints is not None:
        posed = _hands_at(joints, posed)
    return Motion(orient, pose, hands, at_root, betas, posed)


def _hands_at(joints: Array, posed: Array) -> Array:
    """Complete true joints [T, 22 or 52, 3] with the hands of `posed` [T, 52, 3].

    Hands are moved to the true wrists and scaled by the ratio of the forearm lengths.
    """
    if joints.shape[1] == posed.shape[1]:
        return joints
    hands = posed[:, BODY_JOINTS:].reshape(len(posed), 2, 15, 3)
    for side, (elbow, wrist) in enumerate(zip(ELBOWS, WRISTS, strict=True)):
        forearms = [np.linalg.norm(j[:, wrist] - j[:, elbow], axis=-1).mean() for j in (joints, posed)]
        hands[:, side] = joints[:, None, wrist] + (hands[:, side] - posed[:, None, wrist]) * forearms[0] / forearms[1]
    return np.concatenate([joints, hands.reshape(len(posed), 30, 3)], 1)


def _fitted(joints: Array, body: Body, config: FitConfig, fps: float) -> Motion:
    """Fit rotations to a body of which only the joints [T, 22 or 52, 3] are known."""
    points = np.zeros((len(joints), len(POINTS), 4), np.float32)
    points[:, : joints.shape[1], :3], points[:, : joints.shape[1], 3] = joints, 1
    motion = fit(body, Target(fps, points=points), config)
    completed = _hands_at(joints, motion.joints)
    return Motion(motion.global_orient, motion.body_pose, motion.hand_pose, motion.transl, motion.betas, completed)


def _overlap(motion: Motion, track: Array, view: View) -> float:
    """Return the mean IoU of the box around the person's joints and the clip's track."""
    pixels = view.pixels(view.in_camera(motion.joints))
    low, high = pixels.min(1), pixels.max(1)
    shared = np.clip(np.minimum(high, track[:, 2:]) - np.maximum(low, track[:, :2]), 0, None).prod(1)
    union = (high - low).prod(1) + (track[:, 2:] - track[:, :2]).prod(1) - shared
    return float(np.nanmean(shared / union)) if np.isfinite(track).any() else 0.0
