"""Estimate cameras and points from tracked corners of a static scene: bundle adjustment with a robust loss.

A point is (a, b, r): its ray (a, b, 1) in the anchor frame, and its inverse depth. Frame f sees it at
`zoom_f * focal * p[:2] / p[2]` with `p = R_f (a, b, 1) + r t_f`. Each step solves the normal equations for the cameras
after the points are eliminated (Schur complement; Triggs et al., "Bundle Adjustment: A Modern Synthesis", 2000), with
Levenberg's damping. Without `travel`, cameras only turn and points have no depth.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

Array = NDArray[np.floating]

STEPS = 25
ZOOM_SPREAD = 0.3  # standard deviation of ln(zoom) from the anchor frame: keeps what cannot be told from a dolly small
MOST_INVERSE_DEPTH = 50.0
ENOUGH = 1e-4  # stop if a step lowers the loss by a smaller share than this


@dataclass(frozen=True)
class Scene:
    """Cameras of F frames and N points, in picture widths: `turns` [F, 3, 3], `shifts` [F, 3], `zooms` [F] (ln),
    `focal` (ln), `points` [N, 3]. `loss`: robust sum of squares in units of the noise."""

    turns: Array
    shifts: Array
    zooms: Array
    focal: float
    points: Array
    loss: float = np.inf


@dataclass(frozen=True)
class Model:
    """Which motions cameras may have."""

    travel: bool
    zoom: bool
    turn: bool = True

    @property
    def size(self) -> int:
        """Number of parameters of a frame."""
        return 3 * self.turn + 3 * self.travel + self.zoom


def project(scene: Scene) -> tuple[Array, Array]:
    """Return the points in the cameras [F, N, 3], and where they are seen [F, N, 2]."""
    rays = np.concatenate([scene.points[:, :2], np.ones((len(scene.points), 1))], axis=1)
    seen = np.einsum("fij,nj->fni", scene.turns, rays) + scene.shifts[:, None] * scene.points[None, :, 2:]
    scale = np.exp(scene.focal + scene.zooms)[:, None, None]
    return seen, scale * seen[..., :2] / np.maximum(seen[..., 2:], 1e-3)


def residuals(scene: Scene, corners: Array) -> Array:
    """Return the distances of the corners [F, N, 2] from where they are expected, [F, N]; NaN where not tracked."""
    return np.asarray(np.linalg.norm(project(scene)[1] - corners, axis=-1))


def adjust(
    start: Scene, corners: Array, model: Model, noise: float, guess: float, spread: float, steps: int = STEPS
) -> Scene:
    """Improve `start` until the corners [F, N, 2] (NaN where not tracked) fit best.

    `noise`: standard deviation of a corner; the loss is Cauchy's, of three times that scale. `guess`, `spread`: mean
    and standard deviation of what is known of the ln of the focal length.
    """
    anchor = len(corners) // 2
    tracked = np.asarray(np.isfinite(corners).all(axis=-1))
    corners = np.where(tracked[..., None], corners, 0)
    scene, damping = replace(start, loss=_loss(start, corners, tracked, noise, guess, spread)), 1e-3
    for _ in range(steps):
        hessian, gradient, eliminate = _normal_equations(
            scene, corners, tracked, model, noise, guess, spread, anchor, damping
        )
        change = np.linalg.solve(hessian, gradient)
        moved = _moved(scene, change, eliminate(change), model)
        moved = replace(moved, loss=_loss(moved, corners, tracked, noise, guess, spread))
        if moved.loss < scene.loss:
            done = scene.loss - moved.loss < ENOUGH * scene.loss
            scene, damping = moved, max(damping / 5, 1e-6)
            if done:
                break
        else:
            damping *= 8
            if damping > 1e3:
                break
    return scene


def _loss(scene: Scene, corners: Array, tracked: NDArray[np.bool_], noise: float, guess: float, spread: float) -> float:
    square = ((project(scene)[1] - corners) ** 2).sum(axis=-1) / (3 * noise) ** 2
    prior = ((scene.focal - guess) / spread) ** 2 + (scene.zooms**2).sum() / ZOOM_SPREAD**2
    return float(9 * np.log1p(square[tracked]).sum() + prior)


def _normal_equations(
    scene: Scene,
    corners: Array,
    tracked: NDArray[np.bool_],
    model: Model,
    noise: float,
    guess: float,
    spread: float,
    anchor: int,
    damping: float,
) -> tuple[Array, Array, Callable[[Array], Array]]:
    """Return the equations of the cameras and the focal length, and a function from their solution to the points'."""
    frames, count = tracked.shape
    size = model.size
    seen, at = project(scene)
    miss = corners - at
    weight = tracked / (1 + (miss**2).sum(axis=-1) / (3 * noise) ** 2) / noise**2  # [F, N]
    depth = np.maximum(seen[..., 2], 1e-3)
    scale = np.exp(scene.focal + scene.zooms)[:, None] / depth
    zero = np.zeros_like(depth)
    by_point = np.stack(  # [F, N, 2, 3]: of the image by the point in the camera
        [np.stack([scale, zero, -at[..., 0] / depth], -1), np.stack([zero, scale, -at[..., 1] / depth], -1)], axis=-2
    )
    turned = seen - scene.shifts[:, None] * scene.points[None, :, 2:]
    x, y, z = np.moveaxis(turned, -1, 0)
    by_turn = np.stack(  # minus the cross-product matrix of the turned ray
        [np.stack([zero, z, -y], -1), np.stack([-z, zero, x], -1), np.stack([y, -x, zero], -1)], axis=-2
    )
    columns = [by_point @ by_turn] if model.turn else [np.zeros((frames, count, 2, 0))]
    if model.travel:
        columns.append(by_point * scene.points[None, :, 2, None, None])
    if model.zoom:
        columns.append(at[..., None])
    cameras = np.concatenate(columns, axis=-1)  # [F, N, 2, P]
    cameras[anchor] = 0
    axes = [scene.turns[:, None, :, 0], scene.turns[:, None, :, 1]] + ([scene.shifts[:, None]] if model.travel else [])
    points = np.stack([np.einsum("fnij,fnj->fni", by_point, np.broadcast_to(a, seen.shape)) for a in axes], axis=-1)

    weighted = weight[..., None, None] * cameras
    total = frames * size + 1
    hessian = np.zeros((total, total))
    blocks = np.einsum("fnik,fnil->fkl", weighted, cameras, optimize=True)
    for f in range(frames):
        hessian[f * size : (f + 1) * size, f * size : (f + 1) * size] = blocks[f]
    border = np.einsum("fnik,fni->fk", weighted, at).ravel()
    hessian[-1, :-1] = hessian[:-1, -1] = border
    hessian[-1, -1] = (weight[..., None] * at**2).sum() + spread**-2
    gradient = np.append(np.einsum("fnik,fni->fk", weighted, miss).ravel(), (weight[..., None] * at * miss).sum())
    gradient[-1] -= (scene.focal - guess) / spread**2
    if model.zoom:
        zooms = np.arange(frames) * size + size - 1
        hessian[zooms, zooms] += ZOOM_SPREAD**-2
        gradient[zooms] -= scene.zooms / ZOOM_SPREAD**2

    own = np.einsum("fn,fnik,fnil->nkl", weight, points, points, optimize=True)
    k = own.shape[-1]
    own += (damping + 1e-9) * own * np.eye(k) + 1e-6 * np.eye(k)
    pull = np.einsum("fn,fnik,fni->nk", weight, points, miss, optimize=True)
    shared = np.einsum("fnik,fnil->nlfk", weighted, points, optimize=True).reshape(count, k, frames * size)
    of_focal = np.einsum("fn,fnik,fni->nk", weight, points, at, optimize=True)
    shared = np.concatenate([shared, of_focal[..., None]], axis=-1)  # [N, k, total]
    solved = np.linalg.solve(own, np.concatenate([shared, pull[..., None]], axis=-1))
    flat = shared.reshape(-1, total)
    hessian += np.diag(damping * np.diag(hessian) + 1e-6)
    hessian -= flat.T @ solved[..., :-1].reshape(-1, total)
    gradient -= flat.T @ solved[..., -1].reshape(-1)
    return hessian, gradient, lambda change: solved[..., -1] - solved[..., :-1] @ change


def _moved(scene: Scene, change: Array, points: Array, model: Model) -> Scene:
    frames = len(scene.turns)
    step = change[:-1].reshape(frames, model.size)
    turns = Rotation.from_rotvec(step[:, :3]).as_matrix() @ scene.turns if model.turn else scene.turns
    shifts = scene.shifts + step[:, 3:6] if model.travel else scene.shifts
    zooms = scene.zooms + step[:, -1] if model.zoom else scene.zooms
    new = scene.points.copy()
    new[:, : points.shape[1]] += points
    new[:, 2] = np.clip(new[:, 2], 0, MOST_INVERSE_DEPTH)
    return Scene(turns, shifts, zooms, float(scene.focal + np.clip(change[-1], -0.2, 0.2)), new)
