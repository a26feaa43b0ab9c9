"""Label a clip from one view: landmarks of the person in the track, and a smooth fit to them."""

import numpy as np
from numpy.typing import NDArray

from opendimo.model.body.load import Body
from opendimo.model.body.skeleton import JOINTS
from opendimo.pipelines.engine.stage import DataError
from opendimo.pipelines.poses.fit import fit
from opendimo.pipelines.poses.fit_config import FitConfig
from opendimo.pipelines.poses.hands import drop_strange_hands, hands_met
from opendimo.pipelines.poses.initial import shortest_turn
from opendimo.pipelines.poses.label import Label, assess, in_camera
from opendimo.pipelines.poses.landmarks import Landmarks
from opendimo.pipelines.poses.mapping import GROUP, INDEX, SIDES, observe
from opendimo.pipelines.poses.motion import points_of, smoothed
from opendimo.pipelines.poses.objective import Seen, Target
from opendimo.pipelines.poses.sides import settle_sides
from opendimo.pipelines.poses.view import View

Array = NDArray[np.floating]
MAIN = [INDEX[f"{side}_{joint}"] for side in SIDES for joint in ("shoulder", "elbow", "wrist", "hip", "knee")]
"""Joints whose landmark confidence gives the confidence of a frame."""


def one_view_label(
    landmarks: Landmarks, view: View, body: Body, config: FitConfig, gravity_down: Array | None = None
) -> Label:
    """Fit a body to the landmarks of a clip. Raises `DataError` if no person, or no depth, was found."""
    if not landmarks.body_found.any():
        raise DataError("no person was found in any frame of the track: check the track, or filter the clip")
    if not landmarks.world_found.any():
        raise DataError(
            "the landmark model gives no depth, which labelling from one view needs: use mediapipe, or calibrated views"
        )
    landmarks = settle_sides(landmarks)
    observed = observe(drop_strange_hands(landmarks))
    pinhole = np.concatenate([view.undistorted(observed.pixels[..., :2]), observed.pixels[..., 2:]], 2)
    identity = np.broadcast_to(np.eye(3, 4), (len(pinhole), 3, 4))
    camera = identity if view.world_to_camera is None else view.world_to_camera
    R_fit_from_sight = np.swapaxes(camera[:, :, :3], 1, 2) @ _sight(pinhole, view)
    shape = observed.shape.copy()
    shape[..., :3] = shape[..., :3] @ np.swapaxes(R_fit_from_sight, 1, 2)
    motion = smoothed(
        body, fit(body, Target(view.fps, (Seen(pinhole, view.K, camera),), shape=shape), config), view.fps
    )
    fitted = points_of(body, in_camera(motion, view))
    return assess(
        motion,
        view,
        observed=observed.pixels,
        fitted=fitted,
        shape=observed.shape,
        found=landmarks.body_found,
        hand_valid=hands_met(view.pixels(fitted), observed.pixels),
        confidence=observed.pixels[:, MAIN, 2].mean(1),
        joint_confidence=observed.pixels[:, : len(JOINTS), 2],
        landmarks=observed.pixels,
        gravity_down=gravity_down,
    )


def _sight(pinhole: Array, view: View) -> Array:
    """Return the rotations [T, 3, 3] from axes along the line of sight to the person to the axes of the camera.

    The landmark model predicts 3-D landmarks in axes along the line of sight.
    """
    weight = pinhole[..., 2] * (GROUP == 0)
    centre = (weight[..., None] * pinhole[..., :2]).sum(1) / np.maximum(weight.sum(1, keepdims=True), 1e-6)  # [T, 2]
    slope = (centre - view.K[:, :2, 2]) / view.K[:, [0, 1], [0, 1]]
    ray = np.concatenate([slope, np.ones((len(slope), 1))], 1)
    ray[weight.sum(1) == 0] = [0, 0, 1]
    return shortest_turn(np.array([0.0, 0.0, 1.0]), ray)
