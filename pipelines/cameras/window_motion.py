"""Tell from corners of the background over a second or more how the camera turned, zoomed and travelled."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from opendimo.pipelines.cameras.adjustment import Model, Scene, adjust, residuals

Array = NDArray[np.floating]

NOISE = 0.25  # pixels: standard deviation of a corner that is found again by its look
NOISE_OF_FLOW = 0.015  # the same, as a share of how far corners moved: their look changes on the way
LEAST_CORNERS, LEAST_STILL = 12, 6  # with fewer corners the camera can only be found still; with fewer again, nothing
STILL_FITTING, MOVING_FITTING = 0.5, 0.9  # share of the corners that must be within `FITS` of where a still, or a
# moving, camera would see them: before a still camera things move that happen to fit some motion of the camera
FITS = 1.5  # pixels
EXPLAINED = 0.12  # pixels: if turning and zooming leave less in the median, no travel is looked for
TRIALS, KEPT = 5, 2  # steps with every start; starts that are followed to the end
STRIDE = 0.5  # length of the assumed travel, in median depths
STILL = Model(False, False, turn=False)
TURN, TURN_ZOOM, TRAVEL = Model(False, False), Model(False, True), Model(True, False)


@dataclass(frozen=True)
class WindowMotion:
    """The chosen `model` and `scene` of a window; `unexplained`: median pixels that turning and zooming leave."""

    model: Model
    scene: Scene
    unexplained: float
    fitting: float


def window_motion(corners: Array, width: int, focal: float, spread: float) -> WindowMotion | None:
    """Fit corners [F, N, 2] by the simplest model of the camera that holds.

    `corners`: pixels from the middle of the picture, NaN where not seen. Models: still; turning; turning and zooming;
    turning and travelling. Zooming while travelling is not looked for, because depths can explain most of it: it is
    measured as travel. The model is chosen by the Bayesian information criterion (loss + ln(observations) * parameters,
    points included), in the manner of Torr's GRIC (2002), which weighs a homography against an epipolar geometry.
    `focal`: expected ln(focal / width), of standard deviation `spread`. Returns None if there are too few corners, or
    if no model explains enough of them.
    """
    if corners.shape[1] < LEAST_STILL:
        return None
    places = corners / width
    moved = _median(np.linalg.norm(corners - corners[len(corners) // 2], axis=-1))
    noise = (NOISE + NOISE_OF_FLOW * moved) / width
    start = _still(places, focal)
    fits = {STILL: adjust(start, places, STILL, noise, focal, spread)}
    unexplained = _median(residuals(fits[STILL], places)) * width
    if corners.shape[1] >= LEAST_CORNERS:
        fits[TURN] = adjust(start, places, TURN, noise, focal, spread)
        fits[TURN_ZOOM] = adjust(fits[TURN], places, TURN_ZOOM, noise, focal, spread)
        unexplained = _median(residuals(fits[TURN_ZOOM], places)) * width
        if unexplained > EXPLAINED:
            fits[TRAVEL] = _travelling(places, start, noise, focal, spread)
    fitting = {model: _fitting(residuals(fit, places) * width) for model, fit in fits.items()}
    held = [model for model in fits if fitting[model] >= (MOVING_FITTING if model.turn else STILL_FITTING)]
    seen = 2 * int(np.isfinite(places[..., 0]).sum())

    def criterion(model: Model) -> float:
        parameters = model.size * (len(places) - 1) + (3 if model.travel else 2) * corners.shape[1]
        return fits[model].loss + float(np.log(seen)) * parameters

    if not held:
        return None
    model = min(held, key=criterion)
    return WindowMotion(model, fits[model], unexplained, fitting[model])


def _travelling(places: Array, start: Scene, noise: float, focal: float, spread: float) -> Scene:
    """Return the best fit of a camera that turns and travels."""
    trials = [adjust(s, places, TRAVEL, noise, focal, spread, TRIALS) for s in _travels(places, start, focal)]
    trials = sorted(trials, key=lambda s: s.loss)[:KEPT]
    return min((adjust(s, places, TRAVEL, noise, focal, spread) for s in trials), key=lambda s: s.loss)


def _fitting(misses: Array) -> float:
    return float((misses[np.isfinite(misses)] < FITS).mean())


def rates_of(scene: Scene) -> Array:
    """Return the motion between successive frames [F-1, 7]: yaw, pitch, roll, right, up, forward, ln of the zoom.

    Lengths are in the units of the scene, in the axes of the earlier camera.
    """
    turn = -Rotation.from_matrix(scene.turns[1:] @ scene.turns[:-1].transpose(0, 2, 1)).as_rotvec()
    centres = -np.einsum("fji,fj->fi", scene.turns, scene.shifts)
    right, down, forward = np.einsum("fij,fj->fi", scene.turns[:-1], np.diff(centres, axis=0)).T
    pitch, yaw, roll = turn.T
    return np.stack([yaw, pitch, roll, right, -down, forward, np.diff(scene.zooms)], axis=1)


def _still(places: Array, focal: float) -> Scene:
    """Return a scene in which nothing moves: rays of the points as the middle frame sees them."""
    frames, count = places.shape[:2]
    rays = places[frames // 2] / np.exp(focal)
    points = np.concatenate([rays, np.zeros((count, 1))], axis=1)
    return Scene(np.tile(np.eye(3), (frames, 1, 1)), np.zeros((frames, 3)), np.zeros(frames), focal, points)


def _travels(places: Array, still: Scene, focal: float) -> Iterator[Scene]:
    """Yield first guesses of a travelling camera: along each axis without turning, and by the essential matrix."""
    frames = len(places)
    ramp = np.linspace(-STRIDE / 2, STRIDE / 2, frames)[:, None]
    for axis in np.concatenate([np.eye(3), -np.eye(3)]):
        yield _with_depths(replace(still, shifts=ramp * axis), places)
    first, last = places[0] / np.exp(focal), places[-1] / np.exp(focal)
    both = np.isfinite(first[:, 0]) & np.isfinite(last[:, 0])
    if both.sum() < LEAST_CORNERS:
        return
    options: dict[str, Any] = {"method": cv2.USAC_MAGSAC, "prob": 0.999, "threshold": 2e-3}
    essential, inliers = cv2.findEssentialMat(first[both], last[both], np.eye(3), **options)
    if essential is None or essential.shape != (3, 3):
        return
    _, turn, shift, _ = cv2.recoverPose(essential, first[both], last[both], np.eye(3), mask=inliers)
    share = np.linspace(0, 1, frames)[:, None]
    turns = Rotation.from_rotvec(share * Rotation.from_matrix(turn).as_rotvec()).as_matrix()
    shifts = STRIDE * share * shift.ravel()
    turns = turns @ turns[frames // 2].T
    shifts = shifts - np.einsum("fij,j->fi", turns, shifts[frames // 2])
    yield _with_depths(replace(still, turns=turns, shifts=shifts), places)


def _with_depths(scene: Scene, places: Array) -> Scene:
    """Return the scene with the inverse depths that fit its cameras best (linear least squares), at least a little."""
    rays = np.concatenate([scene.points[:, :2], np.ones((len(scene.points), 1))], axis=1)
    turned = np.einsum("fij,nj->fni", scene.turns, rays)
    seen = places / np.exp(scene.focal + scene.zooms)[:, None, None]
    slope = scene.shifts[:, None, :2] - seen * scene.shifts[:, None, 2:]
    miss = seen * turned[..., 2:] - turned[..., :2]
    depths = np.nansum(slope * miss, axis=(0, 2)) / np.maximum(np.nansum(slope**2, axis=(0, 2)), 1e-12)
    return replace(scene, points=np.concatenate([scene.points[:, :2], np.clip(depths, 0.02, 20)[:, None]], axis=1))


def _median(values: Array) -> float:
    return float(np.median(values[np.isfinite(values)]))
