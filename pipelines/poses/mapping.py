"""Map landmarks (MediaPipe's 33 body and 2 x 21 hand points) to the points used by the fit.

These are the 52 joints followed by markers, points that move rigidly with a joint (nose, ears, heels, finger tips).
Landmarks lie where annotators saw the joints, SMPL-X joints lie inside the body: the hip landmarks are near the outside
of the hips, the neck joint is above the line of the shoulders, and so on.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from opendimo.model.body.skeleton import JOINTS
from opendimo.pipelines.poses.landmarks import BODY, HAND, Landmarks

SIDES = ("left", "right")
FINGERS = ("index", "middle", "pinky", "ring", "thumb")
FIRST_OF_FINGER = {"thumb": 1, "index": 5, "middle": 9, "ring": 13, "pinky": 17}  # in MediaPipe's hand
MARKERS = {
    "nose": ("head", (0.0, 0.02, 0.12)),
    "left_eye": ("head", (0.03, 0.055, 0.08)),
    "right_eye": ("head", (-0.03, 0.055, 0.08)),
    "left_ear": ("head", (0.075, 0.03, 0.0)),
    "right_ear": ("head", (-0.075, 0.03, 0.0)),
    "left_heel": ("left_ankle", (0.0, -0.06, -0.045)),
    "right_heel": ("right_ankle", (0.0, -0.06, -0.045)),
    "left_palm": ("left_wrist", (0.0, 0.0, 0.0)),
    "right_palm": ("right_wrist", (0.0, 0.0, 0.0)),
}
"""Marker -> (joint it moves with, offset from it in the rest pose in metres). For finger tips see `TIPS`."""
TIPS = tuple(f"{side}_{finger}_tip" for side in SIDES for finger in FINGERS)
POINTS = (*JOINTS, *MARKERS, *TIPS)
"""Names of all points, joints first."""
INDEX = {name: i for i, name in enumerate(POINTS)}


def _group(name: str) -> int:
    of_hand = name not in MARKERS and any(finger in name for finger in FINGERS)
    return (1 + name.startswith("right")) if of_hand or name.endswith("palm") else 0


GROUP = np.array([_group(name) for name in POINTS])
"""[P]: 0 body, 1 left hand, 2 right hand: points whose depths are measured from a common origin."""

HIDDEN = 0.3
"""Confidence of the 3-D position of an occluded body point."""


@dataclass(frozen=True)
class Observation:
    """Points as observed over T frames. `pixels` [T, P, 3]: x, y, confidence. `shape` [T, P, 4]: x, y, z in metres,
    axes as the camera's, about an arbitrary origin per frame and group, and confidence. Confidence 0: not observed."""

    pixels: NDArray[np.float32]
    shape: NDArray[np.float32]


def observe(landmarks: Landmarks, least: float = 0.2) -> Observation:
    """Compute the points from `landmarks`; landmarks with a confidence below `least` count as not observed.

    Hand landmarks are not metric: their `shape` is in units of the palm (wrist to middle knuckle of each frame).
    """
    frames = len(landmarks.body)
    body = landmarks.body[..., 3] * landmarks.body_found[:, None]
    hands = (landmarks.hands[..., 3] * landmarks.hands_found[..., None]).reshape(frames, -1)
    seen = np.concatenate([np.where(body < least, 0, body), hands], 1)  # [T, 75]
    # the landmark model also predicts occluded body points, which is better than no observation
    placed = np.concatenate([np.maximum(body, HIDDEN) * landmarks.world_found[:, None], hands], 1)
    pixels = np.concatenate([landmarks.body[..., :2], landmarks.hands[..., :2].reshape(frames, -1, 2)], 1)
    palms = np.stack([_palm_units(landmarks.hands[:, side], landmarks.hands_found[:, side]) for side in range(2)], 1)
    shape = np.concatenate([landmarks.world, palms.reshape(frames, -1, 3)], 1)  # [T, 75, 3]
    return Observation(
        np.concatenate([MIX @ pixels, _of_points(seen)], 2).astype(np.float32),
        np.concatenate([MIX @ shape, _of_points(placed)], 2).astype(np.float32),
    )


def _of_points(confidence: NDArray[np.floating]) -> NDArray[np.floating]:
    """Map the confidence of landmarks [T, 75] to points [T, P, 1]: the lowest of their landmarks, times `TRUST`."""
    least: NDArray[np.floating] = np.where(MIX != 0, confidence[:, None], 1).min(2) * TRUST
    return least[..., None]


def _palm_units(hand: NDArray[np.float32], found: NDArray[np.bool_]) -> NDArray[np.floating]:
    """Normalise hand points [T, 21, 4] in pixels to [T, 21, 3] about the wrist, with a palm length of 1 per frame."""
    centred = hand[..., :3] - hand[:, :1, :3]
    palm = np.linalg.norm(centred[:, 9], axis=-1)
    return centred / np.where(found & (palm > 0), palm, 1)[:, None, None]


def _mix() -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the weights [P, 75] that combine landmarks into points, and the trust [P] in each point.

    Each row of the weights sums to 1, or to 0 if no landmark determines the point.
    """
    one = np.eye(BODY + 2 * HAND)
    hips, shoulders, ears = (one[23] + one[24]) / 2, (one[11] + one[12]) / 2, (one[7] + one[8]) / 2
    rows = {
        "pelvis": (hips + 0.17 * (shoulders - hips), 0.5),
        "neck": (shoulders + 0.3 * (ears - shoulders), 0.5),
        "head": (ears + 0.12 * (shoulders - ears), 0.5),
        "nose": (one[0], 1.0),
    }
    for i, side in enumerate(SIDES):
        rows |= {
            f"{side}_hip": (hips + 0.6 * (one[23 + i] - hips), 0.7),
            f"{side}_knee": (one[25 + i], 1.0),
            f"{side}_ankle": (one[27 + i], 1.0),
            f"{side}_foot": (0.7 * one[31 + i] + 0.3 * one[29 + i], 1.0),
            f"{side}_heel": (one[29 + i], 0.7),
            f"{side}_shoulder": (one[11 + i], 1.0),
            f"{side}_elbow": (one[13 + i], 1.0),
            f"{side}_wrist": (one[15 + i], 0.7),
            f"{side}_eye": (one[2 + 3 * i], 1.0),
            f"{side}_ear": (one[7 + i], 1.0),
            f"{side}_palm": (one[BODY + HAND * i], 1.0),
        }
        for finger, first in FIRST_OF_FINGER.items():
            for k, name in enumerate((f"{finger}1", f"{finger}2", f"{finger}3", f"{finger}_tip")):
                rows[f"{side}_{name}"] = (one[BODY + HAND * i + first + k], 1.0)
    mix, trust = np.zeros((len(POINTS), len(one)), np.float32), np.zeros(len(POINTS), np.float32)
    for name, (row, point_trust) in rows.items():
        mix[INDEX[name]], trust[INDEX[name]] = row, point_trust
    return mix, trust


MIX, TRUST = _mix()
