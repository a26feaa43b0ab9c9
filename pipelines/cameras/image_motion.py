"""Estimate camera terms from the picture, for videos without known cameras.

Corners of the background are tracked through the clip, around the person's box. In windows of a second or more,
`window_motion` chooses the simplest model that explains them: turning, zooming, travelling. Travel is told from turning
and zooming by parallax: where there is none (a far or flat background), only turns and zooms are reported. Lengths are
in distances of the subject, whose depth is that of the ground at the person's feet. The fine motion between frames, of
which shake is made, is added from `turning`.
"""

from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from opendimo.pipelines.cameras.background import KEYS, Background, track_background, window_corners
from opendimo.pipelines.cameras.geometry import AXES, filled, named, terms_of_rates
from opendimo.pipelines.cameras.terms import FOCAL_OVER_WIDTH, CameraMotion
from opendimo.pipelines.cameras.turning import turn_and_zoom
from opendimo.pipelines.cameras.window_motion import WindowMotion, rates_of, window_motion

Array = NDArray[np.floating]

CORNERS = 150  # used in a window
LEAST_FLOW = 12.0  # pixels over a window: windows of slow clips are longer
LONGEST = 3  # times the shortest window
FOCAL_SPREAD, KNOWN_SPREAD = 0.3, 0.02  # standard deviations of the ln of the focal length: guessed, and known
TELLING_TURN = 0.05  # radians: turns of at least this much in a window tell the focal length
MIN_SEEN = 0.6  # share of the clip that must be measured
SHAKE_RMS = 0.0035  # radians (0.2 degrees): above the jitter of the tracked corners themselves
FEET_BELOW, FEET_ASIDE = 0.2, 1.2  # search for the ground at the feet: share of the box height, of its width
NEAR_SHARE = 75  # percentile of the inverse depths that stands for the subject if its feet are not seen


def image_motion(
    frames: Iterable[NDArray[np.uint8]],
    fps: float,
    track: Array | None = None,
    focal_over_width: float | None = None,
) -> CameraMotion:
    """Estimate the terms of the camera motion from `frames` [H, W, 3] RGB.

    `track` [T, 4]: the person's box per frame in pixels of the frames, NaN where not visible. `focal_over_width`: focal
    length in picture widths, estimated if None. Returns no terms if there is too little background to measure (noted
    in the evidence).
    """
    background = track_background(frames, fps, track)
    count = len(background.corners)
    if count < 2:
        return CameraMotion("image_motion", (), {"frames": count, "note": "fewer than two frames"})
    windows = _windows(background)
    focal, spread = np.log(focal_over_width or FOCAL_OVER_WIDTH), KNOWN_SPREAD if focal_over_width else FOCAL_SPREAD
    corners = [_centred(window_corners(background, w, CORNERS), background.size) for w in windows]
    motions = [window_motion(c, background.size[0], focal, spread) for c in corners]
    if not focal_over_width and (told := _focal_of_turns(motions)) is not None:
        focal = told
        motions = [
            window_motion(c, background.size[0], focal, KNOWN_SPREAD) if m and m.model.travel else m
            for c, m in zip(corners, motions, strict=True)
        ]
    raw = _joined(background, windows, motions) * fps  # [T-1, 7]
    seen = np.isfinite(raw).all(axis=1)
    travels = [m.model.travel for m in motions if m is not None]
    evidence: dict[str, Any] = {
        "frames": count,
        "measured": round(float(seen.mean()), 3),
        "background_corners": float(np.median(np.isfinite(background.corners[..., 0]).sum(axis=1))),
        "focal_over_width": round(float(np.exp(focal)), 3),
    }
    if seen.mean() < MIN_SEEN:
        return CameraMotion("image_motion", (), evidence | {"note": "too little background to tell"})
    at = np.arange(len(raw))
    raw = np.stack([np.interp(at, at[seen], column[seen]) for column in raw.T], axis=1)
    raw += _fine_motion(background, float(np.exp(focal)), raw / fps) * fps

    terms, unrest = terms_of_rates(raw, fps, _subject(background, float(np.exp(focal))), SHAKE_RMS)
    net = raw.sum(axis=0) / fps
    evidence |= {
        "net_degrees": named(AXES[:3], np.degrees(net[:3])),
        "net_subject_distances": named(AXES[3:6], net[3:6]),
        "zoom_factor": round(float(np.exp(net[6])), 4),
        "jitter_degrees": round(float(np.degrees(np.median(np.linalg.norm(unrest[:, :3], axis=1)))), 4),
        "parallax_share": round(float(np.mean(travels)), 3),
        "unexplained_pixels": round(float(np.median([m.unexplained for m in motions if m is not None])), 3),
        "fitting_share": round(float(np.median([m.fitting for m in motions if m is not None])), 3),
    }
    if not any(travels):
        evidence["note"] = "no parallax: travel before a far or flat background cannot be seen"
    return CameraMotion("image_motion", terms, evidence)


def _windows(background: Background) -> list[NDArray[np.int64]]:
    """Return the windows as indices into the key frames, each overlapping the next by half."""
    keys, rows = background.keys, background.corners[background.keys]
    flow = np.linalg.norm(np.diff(rows, axis=0), axis=-1)
    steady = float(np.median(flow[np.isfinite(flow)])) * (KEYS - 1) if np.isfinite(flow).any() else 0.0
    stride = int(np.clip(np.ceil(LEAST_FLOW / max(steady, 1e-6)), 1, LONGEST))
    stride = max(1, min(stride, (len(keys) - 1) // (KEYS - 1)))
    span = min((KEYS - 1) * stride, len(keys) - 1)
    starts = list(range(0, len(keys) - span, max(1, span // 2)))
    if starts[-1] + span < len(keys) - 1:
        starts.append(len(keys) - 1 - span)
    return [np.arange(start, start + span + 1, stride) for start in starts]


def _centred(corners: Array, size: tuple[int, int]) -> Array:
    return np.asarray(corners - (np.array(size) - 1) / 2)


def _focal_of_turns(motions: list[WindowMotion | None]) -> float | None:
    """Return the ln of the focal length that the turns without travel tell, weighted by their angles; None if none."""
    weights, values = [], []
    for motion in motions:
        if motion is not None and not motion.model.travel:
            angle = float(np.linalg.norm(rates_of(motion.scene).sum(axis=0)[:2]))
            if angle >= TELLING_TURN:
                weights.append(angle**2)
                values.append(motion.scene.focal)
    return float(np.average(values, weights=weights)) if values else None


def _joined(background: Background, windows: list[NDArray[np.int64]], motions: list[WindowMotion | None]) -> Array:
    """Return the motion of each frame step [T-1, 7] in subject distances: the mean of the windows, or NaN."""
    count = len(background.corners)
    total, weights = np.zeros((count - 1, 7)), np.zeros((count - 1, 1))
    for window, motion in zip(windows, motions, strict=True):
        if motion is None:
            continue
        keys = background.keys[window]
        rates = rates_of(motion.scene)
        if motion.model.travel:
            rates[:, 3:6] *= subject_inverse_depth(motion.scene, background, int(keys[len(keys) // 2]))
        for number, (start, stop) in enumerate(pairwise(keys)):
            weight = min(number, len(rates) - 1 - number) + 0.5  # the ends of a window are the least certain
            total[start:stop] += weight * rates[number] / (stop - start)
            weights[start:stop] += weight
    last = int(background.keys[-1])
    if weights[last - 1, 0] > 0:  # the few frames after the last key frame go on as before
        total[last:], weights[last:] = total[last - 1], weights[last - 1]
    with np.errstate(invalid="ignore"):
        return np.asarray(total / np.where(weights > 0, weights, np.nan))


def subject_inverse_depth(scene: Any, background: Background, frame: int) -> float:
    """Return the inverse depth of the ground at the feet of the person, in the scene of a window around `frame`.

    If the feet are out of the picture or no corner is near them: that of the nearer part of the background.
    """
    width, height = background.size
    x0, y0, x1, y1 = background.boxes[frame]
    x, y = (scene.points[:, :2] * np.exp(scene.focal) * width + (np.array(background.size) - 1) / 2).T
    depths = scene.points[:, 2]
    if np.isfinite(x0) and y1 < height - 2:
        below = FEET_BELOW * (y1 - y0)
        near = (np.abs(y - y1) < below) & (np.abs(x - (x0 + x1) / 2) < FEET_ASIDE * (x1 - x0)) & (depths > 0)
        if near.sum() >= 3:
            return float(np.median(depths[near]))
    return float(np.percentile(depths, NEAR_SHARE))


def _fine_motion(background: Background, focal: float, slow: Array) -> Array:
    """Return what the motion [T-1, 7] of the frame steps has beyond its mean between key frames: turns and zoom."""
    fine = np.zeros_like(slow)
    corners = background.corners
    for step in range(len(fine)):
        both = np.isfinite(corners[step, :, 0]) & np.isfinite(corners[step + 1, :, 0])
        found, _ = turn_and_zoom(corners[step, both], corners[step + 1, both], *background.size, focal)
        fine[step, [0, 1, 2, 6]] = found
    bounds = [*background.keys[:-1], len(fine)]
    for start, stop in pairwise(bounds):
        part = fine[start:stop]
        known = np.isfinite(part).all(axis=1)
        part[known] -= part[known].mean(axis=0) if known.any() else 0
        part[~known] = 0
    return fine


def _subject(background: Background, focal: float) -> Array | None:
    """Return the person in the camera frame [T, 3], in their median distance, from the place and height of the box."""
    width, height = background.size
    x0, y0, x1, y1 = background.boxes.T
    tall = np.where((y0 <= 1) | (y1 >= height - 2), np.nan, y1 - y0)
    if not np.isfinite(tall).any():
        return None
    depth = np.nanmedian(tall) / tall
    x, y = ((x0 + x1) / 2 - width / 2) / (focal * width), ((y0 + y1) / 2 - height / 2) / (focal * width)
    return filled(np.stack([x * depth, y * depth, depth], axis=1))
