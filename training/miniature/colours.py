"""Detect limbs by their colours in true and generated frames."""

import numpy as np
from numpy.typing import NDArray

from opendimo.training.miniature.world import COLOURS

Array = NDArray[np.floating]

LIMBS = ("left_forearm", "right_forearm", "left_hand", "right_hand", "left_shin", "right_shin")
"""Detected parts: their hues are 60 degrees apart, all other parts are nearly grey."""
MIN_COSINE = 0.866
"""Minimum cosine between the chroma of a pixel and that of its limb: of 30 degrees, half the distance of two hues."""
MIN_CHROMA = 60.0
"""Minimum distance of a limb's pixel from grey, in RGB from 0 to 255: the background is closer to grey."""
MIN_AREA = 3.0
"""Minimum area, in pixels of full colour, of a limb that is compared."""


def limb_centres(frames: NDArray[np.uint8]) -> tuple[Array, Array]:
    """Detect limbs in frames [T, H, W, 3] RGB.

    Returns centres [T, limbs, 2] in pixels, NaN if a limb is not detected, and areas [T, limbs] in pixels of full
    colour.
    """
    chroma = frames.astype(np.float64) - frames.mean(-1, keepdims=True)
    strength = np.linalg.norm(chroma, axis=-1)  # [T, H, W]
    directions = np.stack([_direction(part) for part in LIMBS], -1)  # [3, limbs]
    cosine = (chroma @ directions) / np.maximum(strength, 1e-6)[..., None]
    nearest = cosine.argmax(-1)[..., None] == np.arange(len(LIMBS))
    full_chroma = np.array([np.linalg.norm(_chroma(part)) for part in LIMBS])
    coloured = (cosine > MIN_COSINE) & nearest & (strength > MIN_CHROMA / 2)[..., None]
    weight = np.where(coloured, strength[..., None], 0) / full_chroma
    area = weight.sum((1, 2))  # [T, limbs]
    rows, columns = np.indices(frames.shape[1:3]) + 0.5
    with np.errstate(invalid="ignore", divide="ignore"):
        x, y = (np.einsum("thwl,hw->tl", weight, coordinate) / area for coordinate in (columns, rows))
    return np.stack([x, y], -1), area


def limb_errors(clip: NDArray[np.uint8], truth: NDArray[np.uint8], height: float) -> Array:
    """Return distances of limbs between a clip and the true clip [T, H, W, 3], over the person's `height` in pixels.

    One value for each frame and limb that is detected in the true clip; it is 1 if the other clip lacks the limb.
    """
    centres, areas = limb_centres(clip)
    true_centres, true_areas = limb_centres(truth)
    distances = np.linalg.norm(centres - true_centres, axis=-1) / height
    return np.where(areas >= MIN_AREA / 3, distances, 1.0)[true_areas >= MIN_AREA]


def limb_overlap(clip: NDArray[np.uint8], truth: NDArray[np.uint8]) -> float:
    """Return the intersection over union of coloured pixels in a clip and in the true clip, over all frames."""
    first, second = (_is_coloured(frames) for frames in (clip, truth))
    return float((first & second).sum() / max(1, (first | second).sum()))


def _is_coloured(frames: NDArray[np.uint8]) -> NDArray[np.bool_]:
    chroma = frames.astype(np.float64) - frames.mean(-1, keepdims=True)
    return np.asarray(np.linalg.norm(chroma, axis=-1) > MIN_CHROMA)


def _chroma(part: str) -> Array:
    colour = np.array(COLOURS[part], np.float64)
    return colour - colour.mean()


def _direction(part: str) -> Array:
    return _chroma(part) / np.linalg.norm(_chroma(part))
