"""Retarget motion capture of the CMU rig to the SMPL-X body.

In the rig's zero pose every joint's axes are aligned with the world. So each SMPL-X joint takes the world rotation of
the rig's joint, after the rest direction of its bone was rotated to that of the rig, whose rest pose differs (its arms
may hang, its legs are spread).
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
    """Map SMPL-X joint names to joint indices of the file, which uses one of the two naming schemes of the CMU rig.

    Raises `DataError` if it uses neither.
    """
    for centre, side in ((_CENTRE, _SIDE), (_OTHER_CENTRE, _OTHER_SIDE)):
        rig_names = centre | {
            f"{s}_{smplx}": f"{s.title()}{rig}" for s in ("left", "right") for smplx, rig in side.items()
        }
        indices = {smplx: bvh.names.index(rig) for smplx, rig in rig_names.items() if rig in bvh.names}
        if all(f"{s}_{joint}" in indices for s in ("left", "right") for joint in side) and "pelvis" in indices:
            return indices
    raise DataError(f"not the CMU rig: its joints are {', '.join(bvh.names[:8])}, ...")


def retarget(bvh: Bvh, name: str) -> Motion:
    """Return the motion on the mannequin at 30 frames per second, with its lowest sole on the floor, centred.

    Limb directions are kept exactly; limb lengths are the mannequin's, and the translation is scaled by the ratio of
    the leg lengths. Fingers stay flat. Raises `DataError` if the file does not use the CMU rig.
    """
    bvh = _at_frame_rate(_y_up(bvh))
    rig_joints = cmu_joints(bvh)
    frames = len(bvh.positions)
    rig_world: list[Rotation] = []  # world_from_joint
    for joint, parent in enumerate(bvh.parents):
        local = Rotation.from_rotvec(bvh.rotations[:, joint])
        rig_world.append(local if parent < 0 else rig_world[parent] * local)

    betas = np.zeros(mannequin().num_betas)
    rest = mannequin().rest_joints(torch.zeros(1)).double().numpy()
    rig_rest = bvh.zero_pose()
    rest_alignment = {
        joint: Rotation.identity() for joint in JOINTS
    }  # SMPL-X rest bone direction -> rig rest bone direction
    for side in ("left", "right"):
        for upper, lower in _LIMBS:
            smplx_bone = rest[JOINTS.index(f"{side}_{lower}")] - rest[JOINTS.index(f"{side}_{upper}")]
            rig_bone = rig_rest[rig_joints[f"{side}_{lower}"]] - rig_rest[rig_joints[f"{side}_{upper}"]]
            rest_alignment[f"{side}_{upper}"] = _shortest(smplx_bone, rig_bone)
        rest_alignment[f"{side}_wrist"] = rest_alignment[f"{side}_elbow"]
    smplx_world: list[Rotation] = []
    rotations = np.zeros((frames, len(JOINTS), 3))
    for joint, joint_name in enumerate(JOINTS):
        parent = PARENTS[joint]
        parent_world = smplx_world[parent] if parent >= 0 else Rotation.identity(frames)
        world = (
            rig_world[rig_joints[joint_name]] * rest_alignment[joint_name] if joint_name in rig_joints else parent_world
        )
        rotations[:, joint] = (parent_world.inv() * world).as_rotvec()
        smplx_world.append(world)

    smplx_leg = _leg(rest, {name: i for i, name in enumerate(JOINTS)})
    transl = bvh.positions * smplx_leg / _leg(rig_rest, rig_joints)
    transl = transl - transl.mean(0)
    motion = Motion(name, rotations, transl, betas)
    floor = np.array([0.0, sole_heights(motion).min(), 0.0])
    return Motion(name, rotations, transl - floor, betas)


def _leg(points: Array, index: dict[str, int]) -> float:
    hip, knee, ankle = (points[index[f"left_{joint}"]] for joint in ("hip", "knee", "ankle"))
    return float(np.linalg.norm(hip - knee) + np.linalg.norm(knee - ankle))


def _y_up(bvh: Bvh) -> Bvh:
    """Convert the motion to Y up. Some files are Z up, which is detected from their zero pose."""
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


def _shortest(start: Array, end: Array) -> Rotation:
    """Return the smallest rotation that turns one direction into another (which must not be its opposite)."""
    a, b = start / np.linalg.norm(start), end / np.linalg.norm(end)
    axis = np.cross(a, b)
    sine = np.linalg.norm(axis)
    return Rotation.from_rotvec(axis / max(sine, 1e-12) * np.arctan2(sine, a @ b))
