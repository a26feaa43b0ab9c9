"""Find the limbs of the miniature's person in pictures, true or generated, by their colours."""

import numpy as np
from numpy.typing import NDArray

from training.miniature.world import COLOURS

Array = NDArray[np.floating]

LIMBS = ("left_forearm", "right_forearm", "left_hand", "right_hand", "left_shin", "right_shin")
"""Parts that are looked for: their hues are 60 degrees apart, all other parts are nearly grey."""
ALIKE = 0.866
"""Cosine between the chroma of a pixel and that of a limb from which on the pixel counts: of 30 degrees, half of what
lies between two limbs."""
COLOURFUL = 60.0
"""Distance of RGB from grey, 0 to 255, from which on a pixel belongs to a limb: the world around is duller."""
SEEN = 3.0
"""Pixels of full colour that a limb must have to be compared."""


def limb_places(frames: NDArray[np.uint8]) -> tuple[Array, Array]:
    """Return where limbs are in frames [T, H, W, 3] RGB: centres [T, limbs, 2] in pixels, and how many pixels of full
    colour each has [T, limbs]; a centre is NaN where there are none."""
    chroma = frames.astype(np.float64) - frames.mean(-1, keepdims=True)
    strength = np.linalg.norm(chroma, axis=-1)  # [T, H, W]
    directions = np.stack([_direction(part) for part in LIMBS], -1)  # [3, limbs]
    cosine = (chroma @ directions) / np.maximum(strength, 1e-6)[..., None]
    nearest = cosine.argmax(-1)[..., None] == np.arange(len(LIMBS))
    full = np.array([np.linalg.norm(_chroma(part)) for part in LIMBS])
    weight = np.where((cosine > ALIKE) & nearest & (strength > COLOURFUL / 2)[..., None], strength[..., None], 0) / full
    mass = weight.sum((1, 2))  # [T, limbs]
    rows, columns = np.indices(frames.shape[1:3]) + 0.5
    with np.errstate(invalid="ignore", divide="ignore"):
        x, y = (np.einsum("thwl,hw->tl", weight, places) / mass for places in (columns, rows))
    return np.stack([x, y], -1), mass


def limb_errors(clip: NDArray[np.uint8], truth: NDArray[np.uint8], height: float) -> Array:
    """Return distances between limbs in a clip and in the truth [T, H, W, 3], over the person's height in pixels.

    One number for each frame and limb that the truth shows; a limb that the clip lacks counts as one height.
    """
    found, mass = limb_places(clip)
    true, shown = limb_places(truth)
    compared = shown >= SEEN
    distance = np.linalg.norm(found - true, axis=-1) / height
    return np.where(mass >= SEEN / 3, distance, 1.0)[compared]


def limb_overlap(clip: NDArray[np.uint8], truth: NDArray[np.uint8]) -> float:
    """Return intersection over union of the pixels of coloured limbs in a clip and in the truth, over all frames."""
    first, second = (_colourful(frames) for frames in (clip, truth))
    return float((first & second).sum() / max(1, (first | second).sum()))


def _colourful(frames: NDArray[np.uint8]) -> NDArray[np.bool_]:
    chroma = frames.astype(np.float64) - frames.mean(-1, keepdims=True)
    return np.asarray(np.linalg.norm(chroma, axis=-1) > COLOURFUL)


def _chroma(part: str) -> Array:
    colour = np.array(COLOURS[part], np.float64)
    return colour - colour.mean()


def _direction(part: str) -> Array:
    return _chroma(part) / np.linalg.norm(_chroma(part))
