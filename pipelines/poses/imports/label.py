"""Turn an imported result into the label of a clip: its person, in the clip's frames and camera, checked in pixels."""

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from opendimo.model.body.load import Body
from opendimo.model.body.skeleton import JOINTS
from opendimo.pipelines.engine.stage import DataError
from opendimo.pipelines.poses import quality
from opendimo.pipelines.poses.fit import fit
from opendimo.pipelines.poses.fit_config import FitConfig
from opendimo.pipelines.poses.hands import drop_strange_hands, hands_met
from opendimo.pipelines.poses.imports.result import Array, Person, Points, Result
from opendimo.pipelines.poses.initial import shortest_turn
from opendimo.pipelines.poses.label import Label, assess, in_camera
from opendimo.pipelines.poses.landmarks import Landmarks
from opendimo.pipelines.poses.mapping import INDEX, POINTS, observe
from opendimo.pipelines.poses.motion import Motion, points_of
from opendimo.pipelines.poses.objective import Seen, Target
from opendimo.pipelines.poses.oneview import MAIN
from opendimo.pipelines.poses.sides import settle_sides
from opendimo.pipelines.poses.view import View
from opendimo.storage_schemas.conventions import project

OFF = 0.1
"""A result is that of another person, or of other frames, if it is farther from the clip's landmarks than this share of
the person's height (median over frames)."""


def imported_label(
    people: list[Result],
    start_frame: int,
    view: View,
    landmarks: Landmarks,
    body: Body,
    config: FitConfig,
    gravity_down: Array | None = None,
) -> Label:
    """Return the label of the person in the result that is nearest to the `landmarks` of the clip.

    Its weight is 0, so that no other label is replaced by it, if the clip has no landmarks to check it by.
    Raises `DataError` if no person of the result is in the frames of the clip, or none is the person of the clip.
    """
    observed = observe(drop_strange_hands(settle_sides(landmarks)))
    found: list[tuple[float, Motion, NDArray[np.bool_], bool]] = []
    for person in people:
        rows = _rows(person, start_frame + np.arange(len(landmarks.body)), view.fps)
        if (rows >= 0).any():
            motion = motion_of(person, rows, view, body, config)
            per_frame = quality.reprojection_per_frame(
                view.pixels(points_of(body, in_camera(motion, view))), observed.pixels
            )
            off = per_frame[(rows >= 0) & np.isfinite(per_frame)]
            distance = float(np.median(off)) if len(off) else np.inf
            has_hands = isinstance(person, Person) and person.hands is not None
            found.append((distance, motion, rows >= 0, has_hands))
    if not found:
        last = max(int(person.frames[-1]) for person in people)
        raise DataError(f"the result ends at frame {last}, before frame {start_frame}, the first of the clip")
    distance, motion, present, has_hands = min(found, key=lambda candidate: candidate[0])
    if np.isfinite(distance) and distance > OFF:
        raise DataError(
            f"the result is {100 * distance:.0f} % of the person's height off the clip's landmarks (at most "
            f"{100 * OFF:.0f} %): another person, other frames, or another frame rate (see --fps)"
        )
    fitted = points_of(body, in_camera(motion, view))
    hands = hands_met(view.pixels(fitted), observed.pixels) & has_hands
    label = assess(
        motion,
        view,
        observed=observed.pixels,
        fitted=fitted,
        shape=None,
        found=present,
        hand_valid=hands,
        confidence=observed.pixels[:, MAIN, 2].mean(1),
        joint_confidence=observed.pixels[:, : len(JOINTS), 2],
        landmarks=observed.pixels,
        gravity_down=gravity_down,
    )
    return label if label.reprojection is not None else replace(label, weight=0.0)


def _rows(person: Result, frames: NDArray[np.int64], fps: float) -> NDArray[np.int64]:
    """Return the index in the result of each frame of the video [T]; -1 where it has none."""
    wanted = np.round(frames * ((person.fps or fps) / fps)).astype(np.int64)
    at = np.searchsorted(person.frames, wanted).clip(max=len(person.frames) - 1)
    return np.where(person.frames[at] == wanted, at, -1)


def motion_of(person: Result, rows: NDArray[np.int64], view: View, body: Body, config: FitConfig) -> Motion:
    """Return the motion in the frames of the clip, in the world if the view is calibrated, else in the camera.

    `rows` [T]: index in the result, -1: none; there, the nearest frame is repeated.
    """
    if isinstance(person, Points):
        return _fitted(person, rows, view, body, config)
    present = np.flatnonzero(rows >= 0)
    nearest = rows[present[np.abs(np.arange(len(rows))[:, None] - present).argmin(1)]]
    orient, bend, position = person.orient[nearest], person.body[nearest], person.position[nearest]
    hands = np.zeros((len(rows), 2, 15, 3)) if person.hands is None else person.hands[nearest]
    betas = np.zeros(body.num_betas) if person.betas is None else person.betas[: body.num_betas]
    rest = body.rest_joints(torch.tensor(betas, dtype=torch.float32))[0].numpy()
    pelvis = position if person.of_pelvis else position + rest
    if person.camera is None:
        if not view.calibrated:
            raise DataError("the result is in the world of a calibration, but the clip has no cameras: ingest them")
    else:
        own = person.camera.at(nearest).K(view.width, view.height)
        orient, pelvis = _in_own_camera(orient, pelvis, own, view)
        orient, pelvis = _in_world(orient, pelvis, view)
    motion = Motion(orient, bend, hands, pelvis - rest, betas, np.zeros((len(rows), len(JOINTS), 3)))
    return replace(motion, joints=points_of(body, motion)[:, : len(JOINTS)])


def _in_own_camera(orient: Array, pelvis: Array, own: Array, view: View) -> tuple[Array, Array]:
    """Move a body seen by a camera `own` [T, 3, 3] to where the clip's camera sees it at the same pixel and size.

    Its depth is scaled by the ratio of the focal lengths, and it turns with its line of sight.
    """
    if (pelvis[:, 2] <= 0).any():
        raise DataError("the result has a body behind its camera: another format, or another version")
    pixels = view.undistorted(project(pelvis[:, None], own))[:, 0]  # [T, 2]
    K = view.K
    ray = np.concatenate([(pixels - K[:, :2, 2]) / K[:, [0, 1], [0, 1]], np.ones((len(K), 1))], 1)
    depth = pelvis[:, 2] * K[:, 1, 1] / own[:, 1, 1]
    turn = Rotation.from_matrix(shortest_turn(pelvis, ray))
    return (turn * Rotation.from_rotvec(orient)).as_rotvec(), ray * depth[:, None]


def _in_world(orient: Array, pelvis: Array, view: View) -> tuple[Array, Array]:
    """Move a body from the camera to the world, if the view is calibrated."""
    if view.world_to_camera is None:
        return orient, pelvis
    R, t = view.world_to_camera[:, :, :3], view.world_to_camera[:, :, 3]
    turned = Rotation.from_matrix(np.swapaxes(R, 1, 2)) * Rotation.from_rotvec(orient)
    return turned.as_rotvec(), np.einsum("tji,tj->ti", R, pelvis - t)


def _fitted(points: Points, rows: NDArray[np.int64], view: View, body: Body, config: FitConfig) -> Motion:
    """Fit the body to points; frames that the result lacks are filled by the fit."""
    present, columns = rows >= 0, [INDEX[name] for name in points.names]

    def spread(values: Array) -> NDArray[np.float32]:
        every = np.zeros((len(rows), len(POINTS), values.shape[2]), np.float32)  # [T, P, 3 or 4]
        every[np.flatnonzero(present)[:, None], columns] = values[rows[present]]
        return every

    if points.world is not None:
        if not view.calibrated:
            raise DataError("the result is in the world of a calibration, but the clip has no cameras: ingest them")
        return fit(body, Target(view.fps, points=spread(points.world)), config)
    if points.shape is None or points.pixels is None or points.size is None:
        raise DataError("the result has neither points in the world, nor pixels and shape")
    shape, pixels = spread(points.shape), spread(points.pixels)
    pixels[..., :2] *= np.array([view.width, view.height]) / np.array(points.size)
    pixels[..., :2] = view.undistorted(pixels[..., :2])
    shape[..., :3] *= _metric(shape, body)
    camera = view.world_to_camera
    if camera is None:
        camera = np.broadcast_to(np.eye(3, 4), (len(rows), 3, 4))
    shape[..., :3] = shape[..., :3] @ camera[:, :, :3]  # from the camera's axes to the world's
    return fit(body, Target(view.fps, (Seen(pixels, view.K, camera),), shape=shape), config)


def _metric(shape: Array, body: Body) -> float:
    """Return the scale that makes the limbs of `shape` [T, P, 4] as long as those of the mean body."""
    rest = body.rest_joints(torch.zeros(body.num_betas)).numpy()
    ratios = []
    for a, b in quality.LIMBS:
        seen = (shape[:, a, 3] > 0) & (shape[:, b, 3] > 0)
        length = np.linalg.norm(shape[seen, a, :3] - shape[seen, b, :3], axis=-1)
        if len(length) and np.median(length) > 0:
            ratios.append(np.linalg.norm(rest[a] - rest[b]) / np.median(length))
    if not ratios:
        raise DataError("the result has no limb whose two ends are known")
    return float(np.median(ratios))
