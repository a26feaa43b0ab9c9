"""Estimate camera terms from known cameras.

With `x_cam = R X_world + t`: camera centre `C = -R^T t`, displacement in the camera frame `R_t (C_{t+1} - C_t)`,
rotation `dR = R_{t+1} R_t^T`. All rates are computed from these, so the result does not depend on the choice of world
frame. With the displacement in the world frame instead (as in SpatialVID's pose-to-instruction code), a dolly in at a
heading of 90 degrees would be reported as a truck.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from opendimo.pipelines.cameras.arcs import main_move, with_arcs, with_follows
from opendimo.pipelines.cameras.terms import (
    FOCAL_OVER_WIDTH,
    SHAKE_RMS,
    CameraMotion,
    Term,
    jitter,
    move_terms,
    shake_terms,
    smooth_rates,
    with_holds,
)
from opendimo.storage_schemas.conventions import camera_centres

Array = NDArray[np.floating]

DEFAULT_DISTANCE = 4.0  # metres, if the distance to the subject is unknown: a person seen full length
PERSON_HEIGHT = 1.7  # metres
AXES = ("yaw", "pitch", "roll", "right", "up", "forward", "zoom")


def camera_motion(
    world_to_camera: Array, K: Array | None, fps: float, subject: Array | None = None, *, metric: bool = True
) -> CameraMotion:
    """Return the terms of a known camera path, with the measurements behind them.

    `world_to_camera` [T, 3, 4]; `K` [T, 3, 3] pixels (None: zoom is not estimated); `subject` [T, 3] position of the
    subject in the camera frame, in the same length unit, NaN where not visible. Raises `ValueError` for non-finite
    cameras or wrong shapes.
    """
    frames = len(world_to_camera)
    if world_to_camera.shape != (frames, 3, 4) or not frames:
        raise ValueError(f"world_to_camera has shape {world_to_camera.shape}, expected [T, 3, 4]")
    if not np.isfinite(world_to_camera).all() or (K is not None and not np.isfinite(K).all()):
        raise ValueError("cameras hold NaN or infinite numbers")
    subject = filled(subject)
    distance = float(np.median(np.linalg.norm(subject, axis=1))) if subject is not None else DEFAULT_DISTANCE
    if frames == 1:
        return CameraMotion("geometry", with_holds([], 1, fps), {"frames": 1, "subject_distance": round(distance, 3)})

    raw = camera_rates(world_to_camera, K, fps, distance)  # [T-1, 7]
    terms, unrest = terms_of_rates(raw, fps, None if subject is None else subject / distance)
    smooth = smooth_rates(raw, fps)

    net = raw.sum(axis=0) / fps
    evidence = {
        "frames": frames,
        "subject_distance": round(distance, 3),
        "subject_known": subject is not None,
        "metric": metric,
        "net_degrees": named(AXES[:3], np.degrees(net[:3])),
        "net_metres": named(AXES[3:6], net[3:6] * distance),
        "zoom_factor": round(float(np.exp(net[6])), 4),
        "peak_degrees_per_s": named(AXES[:3], np.degrees(np.abs(smooth[:, :3]).max(axis=0))),
        "peak_metres_per_s": named(AXES[3:6], np.abs(smooth[:, 3:6]).max(axis=0) * distance),
        "jitter_degrees": round(float(np.degrees(np.median(np.linalg.norm(unrest[:, :3], axis=1)))), 4),
        "jitter_metres": round(float(np.median(np.linalg.norm(unrest[:, 3:6], axis=1)) * distance), 4),
    }
    return CameraMotion("geometry", terms, evidence)


def camera_rates(world_to_camera: Array, K: Array | None, fps: float, distance: float) -> Array:
    """Return rates of yaw (+ right), pitch (+ up), roll (+ clockwise), right, up, forward, zoom per frame step.

    [T, 3, 4], [T, 3, 3] -> [T-1, 7]: radians/s, subject distances/s, d(ln f)/dt.
    """
    rotation = world_to_camera[:, :, :3].astype(np.float64)  # R_camera_from_world
    centres = camera_centres(world_to_camera.astype(np.float64))  # [T, 3]
    # as_rotvec tolerates float32 cameras that are not quite orthonormal; points rotate by dR, the camera by its inverse
    turn = -Rotation.from_matrix(rotation[1:] @ rotation[:-1].transpose(0, 2, 1)).as_rotvec()  # [T-1, 3] about x, y, z
    move = np.einsum("tij,tj->ti", rotation[:-1], np.diff(centres, axis=0)) / distance  # [T-1, 3] right, down, forward
    zoom = np.zeros(len(turn)) if K is None else np.diff(np.log(K[:, 0, 0].astype(np.float64)))
    pitch, yaw, roll = turn.T
    right, down, forward = move.T
    return np.stack([yaw, pitch, roll, right, -down, forward, zoom], axis=1) * fps


def terms_of_rates(
    raw: Array, fps: float, subject: Array | None, shake: float = SHAKE_RMS
) -> tuple[tuple[Term, ...], Array]:
    """Return the terms of a motion and its jitter [T-1, 7], from rates [T-1, 7] as `camera_rates` returns them.

    `subject` [T, 3]: the person in the camera frame, in subject distances, or None. `shake`: minimum rms of `shake`.
    """
    smooth, unrest = smooth_rates(raw, fps), jitter(raw, fps)
    rates = dict(zip(AXES, smooth.T, strict=True))
    terms = move_terms(rates, dict(zip(AXES, unrest.T, strict=True)), fps)
    terms = with_arcs(terms, rates)
    if subject is not None:
        terms = with_follows(terms, path_of_rates(raw, fps), subject, fps)
    kept = main_move(terms, net_motion(raw, fps), len(raw), fps)
    swaying = [Term(0, len(raw) + 1, "shake", "slow")] if kept != terms else []
    terms = kept + (shake_terms(unrest, smooth, fps, shake) or swaying)
    return with_holds(terms, len(raw) + 1, fps), unrest


def net_motion(raw: Array, fps: float) -> dict[str, float]:
    """Return the motion from the first to the last frame in the axes of the first camera, by the names of `AXES`."""
    first, last = path_of_rates(raw, fps)[[0, -1]]
    change = camera_rates(np.stack([first, last]), None, 1.0, 1.0)[0]
    return dict(zip(AXES, [*change[:6].tolist(), float(raw[:, 6].sum() / fps)], strict=True))


def path_of_rates(rates: Array, fps: float) -> Array:
    """Return the cameras [T, 3, 4] that move by `rates` [T-1, 7], from the origin."""
    pitch, yaw, roll = rates[:, 1], rates[:, 0], rates[:, 2]
    steps = Rotation.from_rotvec(-np.stack([pitch, yaw, roll], axis=1) / fps)
    turns, centres = [np.eye(3)], [np.zeros(3)]
    moves = np.stack([rates[:, 3], -rates[:, 4], rates[:, 5]], axis=1) / fps
    for step, move in zip(steps.as_matrix(), moves, strict=True):
        centres.append(centres[-1] + turns[-1].T @ move)
        turns.append(step @ turns[-1])
    R, C = np.array(turns), np.array(centres)
    return np.concatenate([R, -np.einsum("tij,tj->ti", R, C)[..., None]], axis=2)


def subject_from_track(track: Array, K: Array | None, width: int, height: int) -> Array:
    """Estimate the position of a person in the camera frame from their box, assuming a standing height of 1.7 m.

    `track` [T, 4] pixels (NaN where not visible) -> [T, 3] metres, NaN where not visible or cut off by the frame edge.
    """
    if K is None:
        focal = FOCAL_OVER_WIDTH * width
        K = np.tile(np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]]), (len(track), 1, 1))
    x0, y0, x1, y1 = track.astype(np.float64).T
    box_height = np.where(y1 - y0 > 1, y1 - y0, np.nan)
    cut_off = (y0 <= 1) & (y1 >= height - 2)
    depth = np.where(cut_off, np.nan, K[:, 1, 1] * PERSON_HEIGHT / box_height)
    x = ((x0 + x1) / 2 - K[:, 0, 2]) / K[:, 0, 0]
    y = ((y0 + y1) / 2 - K[:, 1, 2]) / K[:, 1, 1]
    return np.stack([x * depth, y * depth, depth], axis=1)


def filled(subject: Array | None) -> Array | None:
    """Fill gaps in subject positions linearly; return None if the subject is never visible."""
    if subject is None:
        return None
    visible = np.isfinite(subject).all(axis=1)
    if not visible.any():
        return None
    at = np.arange(len(subject))
    return np.stack([np.interp(at, at[visible], column[visible]) for column in subject.astype(np.float64).T], axis=1)


def named(names: tuple[str, ...], values: Array) -> dict[str, float]:
    """Return rounded values by name, for the evidence of a caption."""
    return {name: round(float(value), 3) for name, value in zip(names, values, strict=True)}
