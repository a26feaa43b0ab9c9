"""Retarget motion capture to the SMPL-X body, from the positions of the rig's joints.

Rigs differ in their rest poses and in the axes of their joints (a bone of iClone's rig points along +Y, whatever its
direction in the T-pose), but not in where an elbow is. So pelvis and chest take the axes that hips and shoulders
define, limbs take the directions of the rig's bones, and are twisted so that elbows and knees bend as hinges. Only head
and hands, which positions do not determine, take the rig's rotations, relative to chest and forearm.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d
from scipy.spatial.transform import Rotation, Slerp

from opendimo.model.body.skeleton import JOINTS, PARENTS
from opendimo.pipelines.engine.stage import DataError
from opendimo.pipelines.poses.initial import HINGED, POINTING, across, swing, unit
from opendimo.pipelines.studio.bvh import Bvh
from opendimo.pipelines.studio.motions import FPS, Motion, mannequin, sole_heights

Array = NDArray[np.floating]

_CMU = {
    "pelvis": "Hips", "spine3": "Spine1", "neck": "Neck", "head": "Head", "hip": "{Side}UpLeg", "knee": "{Side}Leg",
    "ankle": "{Side}Foot", "foot": "{Side}ToeBase", "shoulder": "{Side}Arm", "elbow": "{Side}ForeArm",
    "wrist": "{Side}Hand",
}  # fmt: skip
_CMU_OTHER = _CMU | {
    "spine3": "Chest2", "neck": "lowerneck", "hip": "{Side}Hip", "knee": "{Side}Knee", "ankle": "{Side}Ankle",
    "foot": "{Side}Toe", "shoulder": "{Side}Shoulder", "elbow": "{Side}Elbow", "wrist": "{Side}Wrist",
}  # fmt: skip
_ICLONE = {
    "pelvis": "CC_Base_Pelvis", "spine3": "CC_Base_Spine02", "neck": "CC_Base_NeckTwist01", "head": "CC_Base_Head",
    "hip": "CC_Base_{S}_Thigh", "knee": "CC_Base_{S}_Calf", "ankle": "CC_Base_{S}_Foot", "foot": "CC_Base_{S}_ToeBase",
    "shoulder": "CC_Base_{S}_Upperarm", "elbow": "CC_Base_{S}_Forearm", "wrist": "CC_Base_{S}_Hand",
}  # fmt: skip
_DEEPMIMIC = {
    "pelvis": "root", "spine3": "chest", "neck": "neck", "head": "neck", "hip": "{side}_hip", "knee": "{side}_knee",
    "ankle": "{side}_ankle", "foot": "{side}_foot", "shoulder": "{side}_shoulder", "elbow": "{side}_elbow",
    "wrist": "{side}_wrist",
}  # fmt: skip
RIGS = {"CMU": _CMU, "CMU, other names": _CMU_OTHER, "iClone": _ICLONE, "DeepMimic": _DEEPMIMIC}
"""Name of a rig -> joint of SMPL-X, without its side -> joint of the rig."""
_CENTRE = ("pelvis", "spine3", "neck", "head")
STEADY = 4.0
"""Standard deviation in frames of the mean that decides the twist of straight limbs."""
LOOSE = 0.05  # sine of the bend below which a limb keeps the twist of its parent


def rig_joints(bvh: Bvh) -> dict[str, int]:
    """Map SMPL-X joint names to joint indices of the file. Raises `DataError` if it uses none of the known rigs."""
    for rig in RIGS.values():
        names = {joint: name for joint, name in rig.items() if joint in _CENTRE}
        for side in ("left", "right"):
            words = {"side": side, "Side": side.title(), "S": side[0].upper()}
            names |= {f"{side}_{joint}": name.format(**words) for joint, name in rig.items() if joint not in _CENTRE}
        if all(name in bvh.names for name in names.values()):
            return {joint: bvh.names.index(name) for joint, name in names.items()}
    raise DataError(f"not a known rig ({', '.join(RIGS)}): its joints are {', '.join(bvh.names[:8])}, ...")


def retarget(bvh: Bvh, name: str) -> Motion:
    """Return the motion on the mannequin at 30 frames per second, Y up, with its lowest sole on the floor, centred.

    Directions of limbs are kept; their lengths are the mannequin's, and the translation is scaled by the ratio of the
    leg lengths. Fingers stay flat. Raises `DataError` if the file uses no known rig.
    """
    bvh = _at_frame_rate(bvh)
    joints = rig_joints(bvh)
    turns, places = bvh.posed()  # world from joint [T, J, 3, 3], positions [T, J, 3]
    up = _y_up(places, joints)
    turns, places = up @ turns, places @ up.T
    rest = mannequin().rest_joints(torch.zeros(1)).double().numpy()  # [52, 3]
    world = _rotations(rest, {joint: places[:, index] for joint, index in joints.items()}, turns, joints)
    local = world.copy()
    local[:, 1:] = np.swapaxes(world[:, list(PARENTS[1:])], -1, -2) @ world[:, 1:]
    rotations = Rotation.from_matrix(local.reshape(-1, 3, 3)).as_rotvec().reshape(len(local), -1, 3)

    betas = np.zeros(mannequin().num_betas)
    scale = _leg(rest[None], {name: i for i, name in enumerate(JOINTS)}) / _leg(places, joints)
    transl = places[:, joints["pelvis"]] * scale
    transl = transl - transl.mean(0)
    motion = Motion(name, rotations, transl, betas)
    floor = np.array([0.0, sole_heights(motion).min(), 0.0])
    return Motion(name, rotations, transl - floor, betas)


def _rotations(rest: Array, at: dict[str, Array], turns: Array, joints: dict[str, int]) -> Array:
    """Return the rotations [T, 52, 3, 3] of all joints from the rest pose.

    `at`: positions [T, 3] of the rig's joints, by SMPL-X names; `turns` [T, J, 3, 3]: the rig's rotations.
    """
    still = dict(zip(JOINTS, rest[:, None], strict=True))  # [1, 3]
    pelvis, chest = (_torso(at, part) @ np.swapaxes(_torso(still, part), 1, 2) for part in ("hip", "shoulder"))
    world: dict[str, Array] = {"pelvis": pelvis, "spine3": chest}
    world |= {f"spine{k}": _between(pelvis, chest, k / 3) for k in (1, 2)}

    def relative(joint: str, to: str) -> Array:
        """Return the rig's rotation of a joint relative to another one, in the world."""
        return np.asarray(turns[:, joints[joint]] @ np.swapaxes(turns[:, joints[to]], 1, 2))

    for number, joint in enumerate(JOINTS[1:], 1):
        parent = world[JOINTS[PARENTS[number]]] if joint not in world else world[joint]
        if joint == "head":
            world["head"] = relative("head", "spine3") @ chest
            world["neck"] = _between(chest, world["head"], 0.5)
        elif joint.endswith("wrist"):
            world[joint] = relative(joint, joint.replace("wrist", "elbow")) @ parent
        elif joint in HINGED:
            end, after, bend = HINGED[joint]
            bone = still[end][0] - still[joint][0]
            turned = swing(parent, bone, at[end] - at[joint])
            world[joint] = _hinged(turned, bone, bend, at[after] - at[end])
        elif joint in POINTING and POINTING[joint] in at:
            end = POINTING[joint]
            world[joint] = swing(parent, still[end][0] - still[joint][0], at[end] - at[joint])
        else:
            world.setdefault(joint, parent)
    return np.stack([world[joint] for joint in JOINTS], 1)


def _hinged(swung: Array, bone: Array, bend: Array, after: Array) -> Array:
    """Rotate `swung` [T, 3, 3] about its bone so that `bend` [3] points along the next bone `after` [T, 3].

    Where the limb is nearly straight, which leaves the angle open, it is that of the frames around.
    """
    along = unit(swung @ bone)
    ahead = unit(across(swung @ bend, along))
    aside = np.cross(along, ahead)
    seen = np.stack([(unit(after) * axis).sum(-1) for axis in (ahead, aside)], -1)  # [T, 2], as long as the bend's sine
    angle = np.arctan2(*(seen + gaussian_filter1d(seen, STEADY, axis=0, mode="nearest") + [LOOSE, 0]).T[::-1])
    return np.asarray((Rotation.from_rotvec(angle[:, None] * along)).as_matrix() @ swung)


def _torso(points: dict[str, Array], part: str) -> Array:
    """Return the axes [T, 3, 3] (left, up, forward) of the pelvis (`part` hip) or of the chest (shoulder)."""
    left, right = points[f"left_{part}"], points[f"right_{part}"]
    middle = (left + right) / 2
    up = points["spine3"] - middle if part == "hip" else middle - points["pelvis"]
    x = unit(left - right)
    z = unit(np.cross(x, up))
    return np.stack([x, np.cross(z, x), z], -1)


def _between(start: Array, end: Array, share: float) -> Array:
    """Return the rotations [T, 3, 3] at a share of the way between two."""
    first = Rotation.from_matrix(start)
    way = (first.inv() * Rotation.from_matrix(end)).as_rotvec()
    return np.asarray((first * Rotation.from_rotvec(share * way)).as_matrix())


def _leg(points: Array, index: dict[str, int]) -> float:
    """Return the mean length of the left leg; points [T, J, 3]."""
    hip, knee, ankle = (points[:, index[f"left_{joint}"]] for joint in ("hip", "knee", "ankle"))
    return float((np.linalg.norm(hip - knee, axis=-1) + np.linalg.norm(knee - ankle, axis=-1)).mean())


def _y_up(places: Array, joints: dict[str, int]) -> Array:
    """Return the rotation [3, 3] to Y up. Some files are Z up, which is seen from where heads are above feet."""
    feet = (places[:, joints["left_ankle"]] + places[:, joints["right_ankle"]]) / 2
    _, y, z = np.median(places[:, joints["neck"]] - feet, axis=0)
    return np.eye(3) if y >= z else Rotation.from_euler("x", -90, degrees=True).as_matrix()


def _at_frame_rate(bvh: Bvh) -> Bvh:
    source_times = np.arange(len(bvh.positions)) * bvh.frame_time
    if len(source_times) < 2:
        return bvh
    times = np.arange(0, source_times[-1] + 1e-9, 1 / FPS)
    times = times[times <= source_times[-1]]
    rotations = np.stack(
        [
            Slerp(source_times, Rotation.from_rotvec(turns))(times).as_rotvec()
            for turns in bvh.rotations.transpose(1, 0, 2)
        ],
        1,
    )
    positions = np.stack([np.interp(times, source_times, axis) for axis in bvh.positions.T], axis=-1)
    return Bvh(bvh.names, bvh.parents, bvh.offsets, rotations, positions, 1 / FPS)
