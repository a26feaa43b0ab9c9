"""Motion capture of the CMU rig, moved to the SMPL-X body.

In the rig's zero pose every joint's axes agree with the world's. So a joint of ours turns as the rig's does, after the
rest direction of its bone has been turned into that of the rig's, whose arms may hang and whose legs are spread.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation, Slerp

from opendimo.model.body.skeleton import JOINTS, PARENTS
from opendimo.pipelines.engine.stage import DataError
from opendimo.pipelines.studio.bvh import Bvh
from opendimo.pipelines.studio.motions import FPS, Motion, mannequin, sole_heights

Array = NDArray[np.float64]

_CENTRE = {
    "pelvis": "Hips",
    "spine1": "LowerBack",
    "spine2": "Spine",
    "spine3": "Spine1",
    "neck": "Neck",
    "head": "Head",
}
_SIDE = {
    "hip": "UpLeg", "knee": "Leg", "ankle": "Foot", "foot": "ToeBase", "collar": "Shoulder", "shoulder": "Arm",
    "elbow": "ForeArm", "wrist": "Hand",
}  # fmt: skip
_OTHER_CENTRE = _CENTRE | {"spine1": "lowerback", "spine2": "Chest", "spine3": "Chest2", "neck": "lowerneck"}
_OTHER_SIDE = {
    "hip": "Hip", "knee": "Knee", "ankle": "Ankle", "foot": "Toe", "collar": "Collar", "shoulder": "Shoulder",
    "elbow": "Elbow", "wrist": "Wrist",
}  # fmt: skip
_LIMBS = (("hip", "knee"), ("knee", "ankle"), ("ankle", "foot"), ("shoulder", "elbow"), ("elbow", "wrist"))


def cmu_joints(bvh: Bvh) -> dict[str, int]:
    """Our joint names -> joints of the file, which has one of the two sets of names of the CMU rig.

    Raises `DataError` where it has neither.
    """
    for centre, side in ((_CENTRE, _SIDE), (_OTHER_CENTRE, _OTHER_SIDE)):
        wanted = centre | {
            f"{s}_{ours}": f"{s.title()}{theirs}" for s in ("left", "right") for ours, theirs in side.items()
        }
        found = {ours: bvh.names.index(theirs) for ours, theirs in wanted.items() if theirs in bvh.names}
        if all(f"{s}_{joint}" in found for s in ("left", "right") for joint in side) and "pelvis" in found:
            return found
    raise DataError(f"not the CMU rig: its joints are {', '.join(bvh.names[:8])}, ...")


def retarget(bvh: Bvh, name: str) -> Motion:
    """The motion on the mannequin at 30 frames per second, its lowest sole on the floor, over the origin on average.

    Directions of limbs are kept exactly; lengths are the mannequin's and the way is scaled by the legs. Fingers stay
    flat. Raises `DataError` where the file is not of the CMU rig.
    """
    bvh = _at_frame_rate(_y_up(bvh))
    found = cmu_joints(bvh)
    frames = len(bvh.positions)
    theirs: list[Rotation] = []  # world_from_joint
    for joint, parent in enumerate(bvh.parents):
        local = Rotation.from_rotvec(bvh.rotations[:, joint])
        theirs.append(local if parent < 0 else theirs[parent] * local)

    betas = np.zeros(mannequin().num_betas)
    rest = mannequin().rest_joints(torch.zeros(1)).double().numpy()
    straight = bvh.zero_pose()
    turned = {joint: Rotation.identity() for joint in JOINTS}  # rest direction of our bone -> rest direction of theirs
    for side in ("left", "right"):
        for upper, lower in _LIMBS:
            ours = rest[JOINTS.index(f"{side}_{lower}")] - rest[JOINTS.index(f"{side}_{upper}")]
            other = straight[found[f"{side}_{lower}"]] - straight[found[f"{side}_{upper}"]]
            turned[f"{side}_{upper}"] = _shortest(ours, other)
        turned[f"{side}_wrist"] = turned[f"{side}_elbow"]
    ours_world: list[Rotation] = []
    rotations = np.zeros((frames, len(JOINTS), 3))
    for joint, joint_name in enumerate(JOINTS):
        parent = PARENTS[joint]
        above = ours_world[parent] if parent >= 0 else Rotation.identity(frames)
        world = theirs[found[joint_name]] * turned[joint_name] if joint_name in found else above
        rotations[:, joint] = (above.inv() * world).as_rotvec()
        ours_world.append(world)

    ours_leg = _leg(rest, {name: i for i, name in enumerate(JOINTS)})
    transl = bvh.positions * ours_leg / _leg(straight, found)
    transl = transl - transl.mean(0)
    motion = Motion(name, rotations, transl, betas)
    floor = np.array([0.0, sole_heights(motion).min(), 0.0])
    return Motion(name, rotations, transl - floor, betas)


def _leg(points: Array, index: dict[str, int]) -> float:
    hip, knee, ankle = (points[index[f"left_{joint}"]] for joint in ("hip", "knee", "ankle"))
    return float(np.linalg.norm(hip - knee) + np.linalg.norm(knee - ankle))


def _y_up(bvh: Bvh) -> Bvh:
    """The same motion with Y up: some files have Z up, which their zero pose tells."""
    head = bvh.zero_pose()[bvh.names.index("Head")] if "Head" in bvh.names else np.array([0.0, 1.0, 0.0])
    if head[1] >= head[2]:
        return bvh
    upright = Rotation.from_euler("x", -90, degrees=True)
    shape = bvh.rotations.shape
    return Bvh(
        bvh.names, bvh.parents, upright.apply(bvh.offsets), upright.apply(bvh.rotations.reshape(-1, 3)).reshape(shape),
        upright.apply(bvh.positions), bvh.frame_time,
    )  # fmt: skip


def _at_frame_rate(bvh: Bvh) -> Bvh:
    given = np.arange(len(bvh.positions)) * bvh.frame_time
    if len(given) < 2:
        return bvh
    wanted = np.arange(0, given[-1] + 1e-9, 1 / FPS)
    wanted = wanted[wanted <= given[-1]]
    rotations = np.stack(
        [Slerp(given, Rotation.from_rotvec(turns))(wanted).as_rotvec() for turns in bvh.rotations.transpose(1, 0, 2)], 1
    )
    positions = np.stack([np.interp(wanted, given, axis) for axis in bvh.positions.T], axis=-1)
    return Bvh(bvh.names, bvh.parents, bvh.offsets, rotations, positions, 1 / FPS)


def _shortest(start: Array, end: Array) -> Rotation:
    """The shortest rotation that turns one direction into another (not its opposite)."""
    a, b = start / np.linalg.norm(start), end / np.linalg.norm(end)
    axis = np.cross(a, b)
    sine = np.linalg.norm(axis)
    return Rotation.from_rotvec(axis / max(sine, 1e-12) * np.arctan2(sine, a @ b))
