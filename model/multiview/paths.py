"""Camera paths to generate videos from: an orbit around the person, or cameras in a file."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

MOST = 64
"""Greatest number of cameras."""
MOST_BYTES = 16 << 20
"""Greatest size of a file of cameras."""


class CameraPaths(Protocol):
    """Cameras relative to the driver's."""

    def __len__(self) -> int:
        """Return the number of cameras."""

    def around(self, person: NDArray[np.floating]) -> Sequence[NDArray[np.float32]]:
        """Return the cameras, each [T or 1, 3, 4], x_target = R x_driver + t, camera coordinates in metres.

        `person` [3]: where the person is in the driver's camera.
        """


@dataclass(frozen=True)
class Orbit:
    """`count` cameras on a circle around the person, evenly spaced; the first one is the driver's.

    Camera k has moved to the left around the person by k / count of a turn ("arcs left") and keeps distance and height.
    `down` [3]: direction of gravity in the driver's camera.
    """

    count: int
    down: tuple[float, float, float] = (0.0, 1.0, 0.0)

    def __post_init__(self) -> None:
        if not 1 <= self.count <= MOST:
            raise ValueError(f"an orbit of {self.count} cameras: ask for 1 to {MOST}")

    def __len__(self) -> int:
        return self.count

    def around(self, person: NDArray[np.floating]) -> Sequence[NDArray[np.float32]]:
        """Implement `CameraPaths.around`."""
        axis = np.asarray(self.down, float) / np.linalg.norm(self.down)
        cameras = list[NDArray[np.float32]]()
        for k in range(self.count):
            turn = _about(axis, -2 * np.pi * k / self.count)  # of the scene about the person, as the camera sees it
            moved = np.concatenate([turn, (person - turn @ person)[:, None]], axis=1)
            cameras.append(moved.astype(np.float32)[None])
        return cameras


@dataclass(frozen=True, eq=False)
class Rig:
    """Given cameras, each [T or 1, 3, 4], relative to the driver's; `names` of them."""

    cameras: tuple[NDArray[np.float32], ...]
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.cameras)

    def around(self, person: NDArray[np.floating]) -> Sequence[NDArray[np.float32]]:
        """Implement `CameraPaths.around`; they do not depend on the person."""
        return self.cameras


def camera_paths(given: str) -> Orbit | Rig:
    """Return `orbit:N`, or the cameras in a JSON file:

        {"driver": "front", "cameras": {"front": [[..], [..], [..]], "side": [...]}}

    Each camera is a matrix world_to_camera, 3 x 4 or 4 x 4 (OpenCV axes, metres), or a list of T such matrices.
    `driver` names the one that filmed the driving video; by default the first. Raises `ValueError`, with the cause, for
    anything else.
    """
    if given.startswith("orbit:"):
        count = given.removeprefix("orbit:")
        if not count.isdecimal():
            raise ValueError(f"--cameras {given}: write orbit:N with a number of cameras, such as orbit:4")
        return Orbit(int(count))
    path = Path(given)
    if not path.is_file():
        raise ValueError(f"--cameras {given}: neither orbit:N nor a file")
    if path.stat().st_size > MOST_BYTES:
        raise ValueError(f"{path} has more than {MOST_BYTES >> 20} MiB: too much for a file of cameras")
    try:
        content = json.loads(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}") from None
    return _rig(content, path)


def _rig(content: Any, path: Path) -> Rig:
    cameras = content.get("cameras") if isinstance(content, dict) else None
    if not isinstance(cameras, dict) or not 1 <= len(cameras) <= MOST:
        raise ValueError(f'{path}: write {{"cameras": {{NAME: MATRIX, ...}}}} with 1 to {MOST} cameras')
    poses = {str(name): _pose(matrix, f"{path}: camera {name}") for name, matrix in cameras.items()}
    driver = str(content.get("driver", next(iter(poses))))
    if driver not in poses:
        raise ValueError(f"{path}: the driver {driver!r} is not one of the cameras {', '.join(poses)}")
    lengths = {len(pose) for pose in poses.values()} - {1}
    if len(lengths) > 1:
        raise ValueError(f"{path}: the cameras have {sorted(lengths)} matrices: give one, or one for each frame")
    frames = next(iter(lengths), 1)
    whole = np.broadcast_to(np.array([0.0, 0.0, 0.0, 1.0]), (frames, 1, 4))

    def square(pose: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.concatenate([np.broadcast_to(pose, (frames, 3, 4)), whole], axis=1)

    to_world = np.linalg.inv(square(poses[driver]))
    relative = [(square(pose) @ to_world)[:, :3].astype(np.float32) for pose in poses.values()]
    return Rig(tuple(relative), tuple(poses))


def _pose(given: Any, name: str) -> NDArray[np.float64]:
    """Return matrices [T or 1, 3, 4]."""
    try:
        pose = np.array(given, np.float64)
    except (ValueError, TypeError):
        raise ValueError(f"{name}: not a matrix of numbers") from None
    pose = pose[None] if pose.ndim == 2 else pose
    if pose.ndim != 3 or pose.shape[1:] not in ((3, 4), (4, 4)) or not len(pose) or not np.isfinite(pose).all():
        raise ValueError(f"{name}: shape {list(pose.shape)}, expected finite matrices of 3 x 4 or 4 x 4")
    rotation = pose[:, :3, :3]
    off = np.abs(rotation @ rotation.transpose(0, 2, 1) - np.eye(3)).max()
    if off > 1e-3 or (np.linalg.det(rotation) < 0).any():
        raise ValueError(f"{name}: its left 3 x 3 is no rotation (off by {off:.3g})")
    return pose[:, :3]


def _about(axis: NDArray[np.floating], angle: float) -> NDArray[np.float64]:
    """Return the rotation matrix [3, 3] about a unit axis (Rodrigues' formula)."""
    x, y, z = axis
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross
