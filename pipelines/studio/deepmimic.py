"""Read motions of DeepMimic's humanoid (arXiv 1804.02717), JSON: durations, root, and rotations of its joints.

Each frame holds its duration in seconds, the root's position in metres and its quaternion (w, x, y, z), then the
rotations of the joints in the order of `_JOINTS`: quaternions, or the angle of a hinge about z. The figure faces +X,
Y is up; with all rotations zero it stands with hanging arms. Offsets are those of the humanoid published with the
motions.
"""

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from opendimo.pipelines.engine.stage import DataError
from opendimo.pipelines.studio.bvh import Bvh

Array = NDArray[np.float64]
_JOINTS = {
    "root": (None, (0.0, 0.0, 0.0), 4),
    "chest": ("root", (0.0, 0.236151, 0.0), 4),
    "neck": ("chest", (0.0, 0.223894, 0.0), 4),
    "right_hip": ("root", (0.0, 0.0, 0.084887), 4),
    "right_knee": ("right_hip", (0.0, -0.421546, 0.0), 1),
    "right_ankle": ("right_knee", (0.0, -0.40987, 0.0), 4),
    "right_shoulder": ("chest", (-0.02405, 0.2435, 0.18311), 4),
    "right_elbow": ("right_shoulder", (0.0, -0.274788, 0.0), 1),
    "left_hip": ("root", (0.0, 0.0, -0.084887), 4),
    "left_knee": ("left_hip", (0.0, -0.421546, 0.0), 1),
    "left_ankle": ("left_knee", (0.0, -0.40987, 0.0), 4),
    "left_shoulder": ("chest", (-0.02405, 0.2435, -0.18311), 4),
    "left_elbow": ("left_shoulder", (0.0, -0.274788, 0.0), 1),
}
"""Joint -> its parent, its offset in metres, and how many numbers its rotation has, in the order of the file."""
_ENDS = {
    f"{side}_{end}": (f"{side}_{joint}", offset, 0)
    for side in ("left", "right")
    for end, joint, offset in (("wrist", "elbow", (0.0, -0.258947, 0.0)), ("foot", "ankle", (0.1, -0.0225, 0.0)))
}
"""Ends of limbs, which do not rotate: the wrist, and the middle of the box of the foot."""


def read_deepmimic(path: Path) -> Bvh:
    """Read a motion at its mean frame rate. Raises `DataError` if the file does not hold one."""
    try:
        frames = np.array(json.loads(path.read_text())["Frames"], np.float64)
        if frames.ndim != 2 or frames.shape[1] != 44 or not np.isfinite(frames).all() or frames[:-1, 0].min() <= 0:
            raise ValueError("frames need 44 finite numbers, the first of them a duration above 0")
    except (OSError, UnicodeDecodeError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: not a readable motion of DeepMimic: {error}") from error
    joints = _JOINTS | _ENDS
    names = list(joints)
    rotations, column = np.zeros((len(frames), len(names), 3)), 4
    for number, (_, _, count) in enumerate(joints.values()):
        values = frames[:, column : column + count]
        column += count
        if count == 4:
            rotations[:, number] = Rotation.from_quat(values[:, [1, 2, 3, 0]]).as_rotvec()
        elif count == 1:
            rotations[:, number, 2] = values[:, 0]
    parents = [-1 if parent is None else names.index(parent) for parent, _, _ in joints.values()]
    offsets = np.array([offset for _, offset, _ in joints.values()])
    return Bvh(names, parents, offsets, rotations, frames[:, 1:4], float(frames[:-1, 0].mean()))
