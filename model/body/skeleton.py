"""Names and tree of the labelled joints: 22 SMPL-X body joints, then 15 MANO joints of each hand.

SMPL-X has 55 joints: the three face joints (jaw and eyes, leaves of the tree) between body and hands are not labelled.
"""

BODY_JOINTS = (
    "pelvis", "left_hip", "right_hip", "spine1", "left_knee", "right_knee", "spine2", "left_ankle", "right_ankle",
    "spine3", "left_foot", "right_foot", "neck", "left_collar", "right_collar", "head", "left_shoulder",
    "right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist",
)  # fmt: skip
FACE_JOINTS = ("jaw", "left_eye", "right_eye")
FINGER_JOINTS = tuple(f"{finger}{i}" for finger in ("index", "middle", "pinky", "ring", "thumb") for i in (1, 2, 3))
HAND_JOINTS = tuple(f"{side}_{joint}" for side in ("left", "right") for joint in FINGER_JOINTS)

JOINTS: tuple[str, ...] = BODY_JOINTS + HAND_JOINTS
"""The 52 joints of `poses.joints_3d`, in order."""
SMPLX_JOINTS: tuple[str, ...] = BODY_JOINTS + FACE_JOINTS + HAND_JOINTS
"""All 55 joints in the order of the SMPL-X file format."""
FROM_SMPLX: tuple[int, ...] = tuple(SMPLX_JOINTS.index(name) for name in JOINTS)
"""Index of each of the 52 labelled joints among the 55 SMPL-X joints."""

_BODY_PARENT = {
    "left_hip": "pelvis", "right_hip": "pelvis", "spine1": "pelvis", "spine2": "spine1", "spine3": "spine2",
    "neck": "spine3", "head": "neck", "jaw": "head", "left_eye": "head", "right_eye": "head",
} | {
    f"{side}_{child}": f"{side}_{parent}" if parent != "spine3" else parent
    for side in ("left", "right")
    for child, parent in (
        ("knee", "hip"), ("ankle", "knee"), ("foot", "ankle"), ("collar", "spine3"), ("shoulder", "collar"),
        ("elbow", "shoulder"), ("wrist", "elbow"),
    )
}  # fmt: skip


def parent_name(joint: str) -> str | None:
    """Return the name of the parent of a SMPL-X joint; None for the pelvis."""
    if joint == "pelvis":
        return None
    if joint in _BODY_PARENT:
        return _BODY_PARENT[joint]
    link = int(joint[-1])  # fingers are chains 1, 2, 3 that start at the wrist
    return f"{joint[:-1]}{link - 1}" if link > 1 else f"{joint.partition('_')[0]}_wrist"


def _parents(names: tuple[str, ...]) -> tuple[int, ...]:
    parents = [parent_name(name) for name in names]
    return tuple(-1 if parent is None else names.index(parent) for parent in parents)


PARENTS: tuple[int, ...] = _parents(JOINTS)
"""Parent of each of the 52 joints; -1 for the root. Parents come before children."""
SMPLX_PARENTS: tuple[int, ...] = _parents(SMPLX_JOINTS)
"""Parent of each of the 55 joints; -1 for the root."""
BONES: tuple[tuple[int, int], ...] = tuple((parent, child) for child, parent in enumerate(PARENTS) if parent >= 0)
"""The 51 pairs (parent, child)."""
