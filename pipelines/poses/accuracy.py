"""Measure the error of estimated joints against true ones, in millimetres."""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]


def mpjpe(estimate: Array, truth: Array, root: int = 0) -> float:
    """Return the mean per-joint position error after aligning the `root` joints. [T, J, 3] metres -> mm."""
    difference = (estimate - estimate[:, root : root + 1]) - (truth - truth[:, root : root + 1])
    return float(1000 * np.linalg.norm(difference, axis=-1).mean())


def pa_mpjpe(estimate: Array, truth: Array) -> float:
    """Return the mean per-joint position error after a Procrustes alignment per frame. [T, J, 3] metres -> mm."""
    return float(1000 * np.linalg.norm(aligned(estimate, truth) - truth, axis=-1).mean())


def aligned(estimate: Array, truth: Array) -> Array:
    """Align `estimate` [T, J, 3] to `truth` with the best similarity transform per frame (Umeyama 1991)."""
    a, b = estimate - estimate.mean(1, keepdims=True), truth - truth.mean(1, keepdims=True)
    u, s, vt = np.linalg.svd(np.swapaxes(b, 1, 2) @ a)
    sign = np.ones_like(s)
    sign[:, 2] = np.sign(np.linalg.det(u @ vt))
    rotation = (u * sign[:, None]) @ vt
    scale = (s * sign).sum(1) / np.maximum((a**2).sum((1, 2)), 1e-12)
    moved: Array = scale[:, None, None] * a @ np.swapaxes(rotation, 1, 2) + truth.mean(1, keepdims=True)
    return moved
