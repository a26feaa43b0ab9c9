"""Body motions of BEDLAM renders: SMPL-X parameters and joints, transformed to the world of the cameras."""

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from opendimo.pipelines.engine.stage import DataError
from opendimo.pipelines.sources.renders import unreal_axes
from opendimo.storage_schemas.ids import sha256_bytes

if TYPE_CHECKING:
    from opendimo.model.body.load import Body

Array = NDArray[np.float64]
MAX_BYTES = 1 << 30  # largest motion file, uncompressed
BODY, HANDS = slice(0, 66), slice(75, 165)  # columns of `poses`; 66..75 are jaw and eyes


@dataclass(frozen=True)
class Truth:
    """One body in the world over T frames.

    joints [T, J, 3] in m, global_orient [T, 3] world_from_body, body_pose [T, 21, 3], hand_pose [T, 2, 15, 3],
    transl [T, 3] in m, betas [B]. J is 22, or 52 with a body model.
    """

    joints: Array
    global_orient: Array
    body_pose: Array
    hand_pose: Array
    transl: Array
    betas: Array


def truth(
    path: Path,
    start: int,
    frames: int,
    position: Sequence[float],
    yaw: float,
    fps: float,
    body_model: str | None,
    step: int = 1,
) -> Truth:
    """Read `frames` frames of a motion npz, every `step`-th from `start`, and place them in the world.

    The body is placed at `position` (Unreal, cm) with `yaw` (degrees). `fps`: frame rate of the motion.

    SMPL-X poses a body as `J = R (J_rest - pelvis) + pelvis + transl`. The world is `X = A J + p`, so the root
    becomes `A R` and `transl` must compensate for the pelvis: `A (pelvis + transl) + p - pelvis`.

    Raises `DataError` if the file is unreadable, lacks keys, is too short, or needs a body model that is not given.
    """
    motion = _read(path)
    if (rate := motion.get("mocap_frame_rate")) is not None and abs(rate.item() - fps) > 0.01 * fps:
        raise DataError(
            f"{path}: the motion has {rate.item():g} frames per second, the video {fps:g}: resample the motion"
        )
    stop = start + (frames - 1) * step + 1
    if start < 0 or stop > len(motion["poses"]):
        raise DataError(
            f"{path}: has {len(motion['poses'])} frames, but frames [{start}, {stop}) are needed: "
            "wrong motion file or wrong start_frame"
        )
    poses = motion["poses"][start:stop:step].astype(np.float64)
    poses = np.concatenate([poses[:, BODY], poses[:, HANDS]], axis=1).reshape(frames, 52, 3)
    transl = motion["trans"][start:stop:step].astype(np.float64)
    betas = motion["betas"].astype(np.float64).ravel()

    if "rest_joints" in motion and "parents" in motion:
        rest, parents = motion["rest_joints"].astype(np.float64), motion["parents"].astype(int).tolist()
        joints = _posed(rest, parents, poses[:, : len(rest)]) + transl[:, None]
        pelvis = rest[0]
    else:
        joints, pelvis = _posed_by_model(path, body_model, poses, transl, betas)

    rotation = unreal_axes.world_from_body(yaw)
    translation = unreal_axes.point(position)
    root = Rotation.from_matrix(rotation) * Rotation.from_rotvec(poses[:, 0])
    return Truth(
        joints @ rotation.T + translation,
        root.as_rotvec(),
        poses[:, 1:22],
        poses[:, 22:].reshape(frames, 2, 15, 3),
        (transl + pelvis) @ rotation.T + translation - pelvis,
        betas,
    )


def motion_hash(path: Path) -> str | None:
    """Return the hash of poses and trans, which is the same in every release of a motion; None if unreadable."""
    try:
        motion = _read(path)
    except DataError:
        return None
    return sha256_bytes(motion["poses"].astype(np.float32).tobytes() + motion["trans"].astype(np.float32).tobytes())


def _read(path: Path) -> dict[str, Any]:
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(part.file_size for part in archive.infolist())
        if size > MAX_BYTES:
            raise ValueError(f"{size} bytes unpacked are more than {MAX_BYTES}")
        with np.load(path, allow_pickle=False) as file:
            motion = {key: file[key] for key in file.files if file[key].dtype.kind in "fiu"}
    except FileNotFoundError as error:
        raise DataError(f"no motion {path}: put it there, or point `motions` at the folder that has it") from error
    except Exception as error:
        raise DataError(f"{path}: not a readable npz of plain arrays: {error}") from error
    if missing := {"poses", "trans", "betas"} - set(motion):
        raise DataError(f"{path}: not an SMPL-X motion, it lacks {', '.join(sorted(missing))}")
    poses, trans = motion["poses"], motion["trans"]
    if poses.ndim != 2 or poses.shape[1] != 165 or trans.shape != (len(poses), 3):
        raise DataError(f"{path}: poses {poses.shape} and trans {trans.shape} should be [T, 165] and [T, 3]")
    if not all(np.isfinite(motion[name]).all() for name in ("poses", "trans", "betas")):
        raise DataError(f"{path}: the motion has numbers that are not finite: correct it")
    if np.size(motion.get("mocap_frame_rate", 0)) != 1:
        raise DataError(f"{path}: mocap_frame_rate should be one number")
    if "rest_joints" in motion and "parents" in motion:
        rest, parents = motion["rest_joints"], motion["parents"]
        ordered = all(0 <= parent < child for child, parent in enumerate(parents.tolist()) if child)
        if rest.shape not in {(22, 3), (52, 3)} or len(parents) != len(rest) or not ordered:
            raise DataError(f"{path}: rest_joints should be [22, 3] or [52, 3], each with an earlier joint as parent")
    return motion


def _posed(rest: Array, parents: list[int], poses: Array) -> Array:
    """Return joints [T, J, 3] from rest joints [J, 3] and axis-angle poses [T, J, 3]; ignores the root's parent."""
    import torch

    from opendimo.model.body.kinematics import forward_kinematics

    rotations = torch.from_numpy(Rotation.from_rotvec(poses.reshape(-1, 3)).as_matrix()).reshape(*poses.shape, 3)
    return forward_kinematics(rotations, torch.from_numpy(rest), (-1, *parents[1:])).numpy()


def _posed_by_model(
    path: Path, body_model: str | None, poses: Array, transl: Array, betas: Array
) -> tuple[Array, Array]:
    """Return joints [T, 52, 3] and the rest pelvis [3], computed with the user's SMPL-X file."""
    if body_model is None:
        raise DataError(f"{path}: has no rest_joints; give the SMPL-X file it was made with as `body_model`")
    import torch

    body = _load_body(body_model)
    p, t, b = (torch.tensor(a, dtype=torch.float32) for a in (poses, transl, betas))
    with torch.no_grad():
        joints = body.joints(p[:, 0], p[:, 1:22], p[:, 22:].reshape(-1, 2, 15, 3), t, b)
        pelvis = body.rest_joints(b)[0]
    return joints.double().numpy(), pelvis.double().numpy()


@lru_cache(maxsize=2)
def _load_body(path: str) -> "Body":
    from opendimo.model.body.load import load_body

    return load_body(Path(path))
