"""Read motion capture from BVH files.

The channels of a joint are intrinsic rotations in the order of the file; offsets define the pose with zero rotations.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from opendimo.pipelines.engine.stage import DataError

Array = NDArray[np.float64]
ICLONE = ("CC_Base", "RL_Bone")
"""Beginnings of the root's name in files of iClone, which adds the root's position to its offset."""


@dataclass(frozen=True)
class Bvh:
    """Motion of J joints over T frames: offsets [J, 3] from the parent, rotations [T, J, 3] (axis-angle, relative to
    the parent), root positions [T, 3], all in the units and axes of the file; `frame_time` in seconds."""

    names: list[str]
    parents: list[int]
    offsets: Array
    rotations: Array
    positions: Array
    frame_time: float

    def posed(self) -> tuple[Array, Array]:
        """Return the rotations [T, J, 3, 3] of the joints from their own axes to the world, and their positions."""
        turns: list[Array] = []
        places: list[Array] = []
        for joint, parent in enumerate(self.parents):
            local = Rotation.from_rotvec(self.rotations[:, joint]).as_matrix()
            turns.append(local if parent < 0 else turns[parent] @ local)
            places.append(self.positions if parent < 0 else places[parent] + turns[parent] @ self.offsets[joint])
        return np.stack(turns, 1), np.stack(places, 1)


def read_bvh(path: Path) -> Bvh:
    """Read a BVH file. Raises `DataError` if it is not one, or its numbers do not match its joints."""
    try:
        words = path.read_text().split()
        return _parse(words)
    except (UnicodeDecodeError, ValueError, IndexError, KeyError) as error:
        raise DataError(f"{path}: not a readable BVH file: {error}") from error


def _parse(words: list[str]) -> Bvh:
    names, parents, offsets, channels = [], [], [], []
    open_joints: list[int] = []  # -1: an end site
    at = 0
    while words[at] != "MOTION":
        match words[at]:
            case "ROOT" | "JOINT":
                names.append(words[at + 1])
                parents.append(open_joints[-1] if open_joints else -1)
                open_joints.append(len(names) - 1)
                at += 2
            case "End":
                open_joints.append(-1)
                at += 2
            case "OFFSET":
                if open_joints[-1] >= 0:
                    offsets.append([float(word) for word in words[at + 1 : at + 4]])
                at += 4
            case "CHANNELS":
                count = int(words[at + 1])
                channels.append(words[at + 2 : at + 2 + count])
                at += 2 + count
            case "}":
                open_joints.pop()
                at += 1
            case _:
                at += 1
    frames, frame_time = int(words[at + 2]), float(words[at + 5])
    table = np.array(words[at + 6 :], np.float64)
    total = sum(len(each) for each in channels)
    if not len(offsets) == len(channels) == len(names) or frames < 1 or frame_time <= 0 or table.size != frames * total:
        raise ValueError(f"{table.size} numbers for {frames} frames of {total} channels and {len(names)} joints")
    if not np.isfinite(table).all():
        raise ValueError("it contains numbers that are not finite")
    table = table.reshape(frames, total)
    rotations, positions, column = np.zeros((frames, len(names), 3)), np.zeros((frames, 3)), 0
    for joint, each in enumerate(channels):
        values = dict(zip(each, table[:, column : column + len(each)].T, strict=True))
        column += len(each)
        turns = [channel for channel in each if channel.endswith("rotation")]
        order = "".join(channel[0] for channel in turns)
        angles = np.stack([values[channel] for channel in turns], axis=-1)
        rotations[:, joint] = Rotation.from_euler(order, angles, degrees=True).as_rotvec()
        if parents[joint] < 0 and "Xposition" in values:
            positions = np.stack([values[f"{axis}position"] for axis in "XYZ"], axis=-1)
    stated = np.array(offsets)
    start = stated[0] if names[0].startswith(ICLONE) else 0
    return Bvh(names, parents, stated, rotations, positions + start, frame_time)
