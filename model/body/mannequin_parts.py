"""The mannequin's dimensions in metres: joints and parts of an adult of about 1.7 m in T-pose.

y is the height above the floor, x points to the body's left, z to the front; right sides mirror left ones.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from opendimo.model.body.surface import RoundCone

Array = NDArray[np.float64]
Point = tuple[float, float, float]
Colour = tuple[int, int, int]
ORIGIN = np.array([0.0, 1.28, 0.0])
"""The origin of the body's coordinates; as in SMPL-X the pelvis is about a third of a metre below it."""

SKIN, HAIR, SHIRT, BACK = (226, 176, 146), (58, 40, 30), (44, 104, 184), (30, 66, 122)
LEFT_SLEEVE, RIGHT_SLEEVE, PATCH = (236, 146, 44), (64, 164, 104), (246, 226, 96)
TROUSERS, LEFT_SHOE, RIGHT_SHOE = (66, 66, 84), (228, 228, 232), (196, 58, 54)
EYE, IRIS, LIPS = (244, 244, 244), (40, 30, 28), (182, 82, 80)

_ARM = 1.385  # height of the arms
_FINGERS: dict[str, list[Point]] = {  # three joints and the tip, from the wrist; palms look down
    "index": [(0.096, 0.0, 0.032), (0.138, -0.001, 0.041), (0.165, -0.002, 0.047), (0.190, -0.004, 0.052)],
    "middle": [(0.100, 0.002, 0.008), (0.146, 0.001, 0.011), (0.176, 0.0, 0.013), (0.203, -0.002, 0.015)],
    "ring": [(0.095, 0.0, -0.015), (0.137, -0.001, -0.020), (0.165, -0.002, -0.024), (0.190, -0.004, -0.027)],
    "pinky": [(0.086, -0.003, -0.037), (0.117, -0.004, -0.047), (0.137, -0.005, -0.054), (0.158, -0.007, -0.061)],
    "thumb": [(0.024, -0.010, 0.030), (0.056, -0.016, 0.058), (0.084, -0.018, 0.074), (0.110, -0.020, 0.086)],
}
_WRIST = (0.69, _ARM, -0.03)


def _from_wrist(offset: Point) -> Point:
    return (_WRIST[0] + offset[0], _WRIST[1] + offset[1], _WRIST[2] + offset[2])


_LEFT: dict[str, Point] = {
    "hip": (0.088, 0.885, 0.0), "knee": (0.100, 0.485, 0.0), "ankle": (0.104, 0.080, -0.032),
    "foot": (0.114, 0.028, 0.092), "collar": (0.060, 1.355, -0.020), "shoulder": (0.172, _ARM, -0.030),
    "elbow": (0.440, _ARM, -0.036), "wrist": _WRIST, "eye": (0.031, 1.603, 0.078),
} | {f"{name}{i + 1}": _from_wrist(chain[i]) for name, chain in _FINGERS.items() for i in range(3)}  # fmt: skip

JOINTS: dict[str, Point] = {
    "pelvis": (0.0, 0.930, 0.010), "spine1": (0.0, 1.030, -0.005), "spine2": (0.0, 1.150, -0.005),
    "spine3": (0.0, 1.210, -0.005), "neck": (0.0, 1.420, -0.025), "head": (0.0, 1.510, 0.0), "jaw": (0.0, 1.545, 0.02),
}  # fmt: skip
for _name, (_x, _y, _z) in _LEFT.items():
    JOINTS[f"left_{_name}"] = (_x, _y, _z)
    JOINTS[f"right_{_name}"] = (-_x, _y, _z)


@dataclass(frozen=True)
class Part:
    """One closed surface.

    `cones` define its shape, `paint` maps vertices [V, 3] to colours [V, 3], `step` is the grid spacing of the mesh,
    `seam` the blending width between cones and `bend` the blending width of skinning weights at joints, in metres.
    """

    cones: list[RoundCone]
    paint: Callable[[Array], Array]
    step: float
    seam: float
    bend: float


def _mirrored(cone: RoundCone) -> RoundCone:
    (ax, ay, az), (bx, by, bz) = cone.a, cone.b
    return replace(cone, joint=cone.joint.replace("left_", "right_"), a=(-ax, ay, az), b=(-bx, by, bz))


def _both(cones: list[RoundCone]) -> list[RoundCone]:
    return cones + [_mirrored(cone) for cone in cones]


def _plain(colour: Colour) -> Callable[[Array], Array]:
    return lambda vertices: np.broadcast_to(np.array(colour, dtype=float), vertices.shape)


def _shirt(v: Array) -> Array:
    colours = np.where(v[:, 2:] > -0.02, SHIRT, BACK).astype(float)
    colours[v[:, 0] > 0.19] = LEFT_SLEEVE
    colours[v[:, 0] < -0.19] = RIGHT_SLEEVE
    colours[(np.abs(v[:, 0]) < 0.075) & (np.abs(v[:, 1] - 1.27) < 0.055) & (v[:, 2] > 0.03)] = PATCH
    return colours


def _ball(joint: str, centre: Point, radius: float, stretch: Point = (1.0, 1.0, 1.0)) -> RoundCone:
    return RoundCone(joint, centre, centre, radius, radius, stretch)


_FLAT = (1.0, 1.0, 0.76)
_SHIRT_CONES = [
    RoundCone("pelvis", (0.0, 0.945, 0.0), (0.0, 1.03, 0.0), 0.146, 0.128, _FLAT),
    RoundCone("spine1", (0.0, 1.03, 0.0), (0.0, 1.15, 0.0), 0.126, 0.130, _FLAT),
    RoundCone("spine2", (0.0, 1.15, 0.0), (0.0, 1.21, 0.0), 0.130, 0.134, _FLAT),
    *_both([
        RoundCone("spine3", (0.050, 1.215, 0.0), (0.058, 1.325, -0.008), 0.092, 0.080),
        RoundCone("left_collar", (0.050, 1.360, -0.022), (0.155, 1.372, -0.030), 0.058, 0.056),
        RoundCone("left_shoulder", (0.166, 1.380, -0.030), (0.385, _ARM, -0.035), 0.057, 0.049),
    ]),
    RoundCone("spine3", (0.0, 1.350, -0.024), (0.0, 1.405, -0.026), 0.070, 0.056),
]  # fmt: skip
_TROUSERS_CONES = [
    RoundCone("pelvis", (0.0, 0.985, 0.0), (0.0, 0.900, 0.0), 0.122, 0.122, (1.0, 1.0, 0.80)),
    *_both([
        _ball("pelvis", (0.072, 0.895, -0.035), 0.088),
        RoundCone("left_hip", (0.089, 0.865, 0.0), (0.100, 0.485, 0.003), 0.086, 0.058),
        RoundCone("left_knee", (0.100, 0.485, 0.003), (0.104, 0.105, -0.028), 0.056, 0.047),
        RoundCone("left_knee", (0.101, 0.390, -0.018), (0.102, 0.300, -0.026), 0.053, 0.050),
    ]),
]  # fmt: skip
_SHOE_CONES = [
    RoundCone("left_ankle", (0.104, 0.135, -0.032), (0.105, 0.060, -0.034), 0.040, 0.042),
    RoundCone("left_ankle", (0.106, 0.034, -0.060), (0.112, 0.036, 0.070), 0.036, 0.043),
    RoundCone("left_foot", (0.114, 0.028, 0.092), (0.118, 0.022, 0.142), 0.045, 0.034),
]
_FOREARM_CONES = [
    RoundCone("left_shoulder", (0.330, _ARM, -0.034), (0.440, _ARM, -0.036), 0.040, 0.041),
    RoundCone("left_elbow", (0.440, _ARM, -0.036), (0.530, _ARM, -0.034), 0.041, 0.043),
    RoundCone("left_elbow", (0.530, _ARM, -0.034), (0.680, _ARM, -0.030), 0.042, 0.028),
]
_HAND_CONES = [
    RoundCone("left_elbow", (0.650, _ARM, -0.030), (0.688, _ARM, -0.030), 0.027, 0.025, (1.0, 0.85, 1.0)),
    *[
        RoundCone("left_wrist", _from_wrist((0.010, 0.0, 0.4 * chain[0][2])), _from_wrist(chain[0]), 0.017, 0.0125)
        for name, chain in _FINGERS.items()
        if name != "thumb"
    ],
    *[
        RoundCone(f"left_{name}{i + 1}", _from_wrist(chain[i]), _from_wrist(chain[i + 1]), size, 0.9 * size)
        for name, chain in _FINGERS.items()
        for i, size in enumerate((0.0145, 0.0115, 0.0105) if name == "thumb" else (0.0100, 0.0092, 0.0084))
    ],
]
_HEAD_CONES = [
    RoundCone("neck", (0.0, 1.390, -0.028), (0.0, 1.480, -0.012), 0.056, 0.053),
    RoundCone("head", (0.0, 1.480, -0.012), (0.0, 1.540, -0.005), 0.052, 0.056),
    _ball("head", (0.0, 1.615, -0.008), 0.086, (0.88, 1.08, 1.10)),
    RoundCone("head", (0.0, 1.590, 0.038), (0.0, 1.548, 0.045), 0.056, 0.048),
    RoundCone("jaw", (0.0, 1.530, 0.045), (0.0, 1.510, 0.058), 0.040, 0.027),
    RoundCone("head", (0.0, 1.606, 0.088), (0.0, 1.578, 0.108), 0.008, 0.0120),
    *_both([
        _ball("head", (0.079, 1.590, -0.008), 0.027, (0.35, 1.0, 0.7)),
        _ball("head", (0.040, 1.572, 0.052), 0.028),
        _ball("head", (0.012, 1.577, 0.097), 0.008),
    ]),
]  # fmt: skip
_HAIR_CONES = [
    _ball("head", (0.0, 1.632, -0.022), 0.092, (0.92, 1.02, 1.06)),
    _ball("head", (0.0, 1.585, -0.055), 0.066, (1.0, 1.0, 0.8)),
]


_SMALL = {"seam": 0.001, "bend": 0.01}


def _pair(cones: list[RoundCone], left: Colour, right: Colour, *, step: float, seam: float, bend: float) -> list[Part]:
    """Return the part of the left side and its mirror image."""
    mirrored = [_mirrored(cone) for cone in cones]
    return [Part(cones, _plain(left), step, seam, bend), Part(mirrored, _plain(right), step, seam, bend)]


PARTS: list[Part] = [
    Part(_SHIRT_CONES, _shirt, step=0.023, seam=0.016, bend=0.028),
    Part(_TROUSERS_CONES, _plain(TROUSERS), step=0.023, seam=0.016, bend=0.024),
    *_pair(_SHOE_CONES, LEFT_SHOE, RIGHT_SHOE, step=0.016, seam=0.010, bend=0.015),
    *_pair(_FOREARM_CONES, SKIN, SKIN, step=0.016, seam=0.006, bend=0.012),
    *_pair(_HAND_CONES, SKIN, SKIN, step=0.0066, seam=0.0028, bend=0.005),
    Part(_HEAD_CONES, _plain(SKIN), step=0.0125, seam=0.008, bend=0.015),
    Part(_HAIR_CONES, _plain(HAIR), step=0.016, seam=0.010, bend=0.015),
    *_pair([_ball("left_eye", (0.031, 1.603, 0.0815), 0.0150)], EYE, EYE, step=0.006, **_SMALL),
    *_pair([_ball("left_eye", (0.031, 1.603, 0.0915), 0.0078)], IRIS, IRIS, step=0.004, **_SMALL),
    *_pair(
        [RoundCone("head", (0.017, 1.6255, 0.090), (0.046, 1.6265, 0.077), 0.0048, 0.0038)],
        HAIR,
        HAIR,
        step=0.0045,
        **_SMALL,
    ),
    Part(
        [RoundCone("jaw", (-0.022, 1.5395, 0.0915), (0.022, 1.5395, 0.0915), 0.0065, 0.0065)],
        _plain(LIPS),
        step=0.0045,
        **_SMALL,
    ),
]
"""The parts, in the order of their vertices."""
