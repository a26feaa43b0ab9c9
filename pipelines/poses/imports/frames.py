"""Readers of results with a row or file per frame: BEDLAM and CameraHMR labels, Multi-HMR, EasyMocap, MotionBERT."""

import re
from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from opendimo.pipelines.engine.stage import DataError
from opendimo.pipelines.poses.imports.result import (
    SMPL_PELVIS,
    Array,
    Camera,
    Person,
    Points,
    Result,
    centred,
    mean_betas,
    shaped,
)
from opendimo.pipelines.poses.imports.safe import load

SMPLX_PELVIS = np.array([0.0031, -0.3514, 0.0120])
"""Rest position of the pelvis joint of the neutral SMPL-X body, metres."""
MULTIHMR_VIEW = 60.0
"""Field of view that Multi-HMR assumes over the longer side of the image, degrees."""
JUMP = 0.5
"""A person that moved farther than this between frames is another one, metres."""
BODY25 = {
    0: "nose", 2: "right_shoulder", 3: "right_elbow", 4: "right_wrist", 5: "left_shoulder", 6: "left_elbow",
    7: "left_wrist", 9: "right_hip", 10: "right_knee", 11: "right_ankle", 12: "left_hip", 13: "left_knee",
    14: "left_ankle", 15: "right_eye", 16: "left_eye", 17: "right_ear", 18: "left_ear", 21: "left_heel",
    24: "right_heel",
}  # fmt: skip
"""OpenPose's BODY_25 points that are points of the fit; its neck and mid-hip are other places."""
H36M = {
    0: "pelvis", 1: "right_hip", 2: "right_knee", 3: "right_ankle", 4: "left_hip", 5: "left_knee", 6: "left_ankle",
    9: "nose", 11: "left_shoulder", 12: "left_elbow", 13: "left_wrist", 14: "right_shoulder", 15: "right_elbow",
    16: "right_wrist",
}  # fmt: skip
"""Human3.6M's 17 joints that are points of the fit; its spine, thorax and top of the head are other places."""


def bedlam(path: Path, size: tuple[float, float], video: str | None = None) -> list[Result]:
    """Read labels of BEDLAM and CameraHMR (github.com/pixelite1201/BEDLAM, pixelite1201/CameraHMR, dataset_train.py).

    .npz with a row per person and image: `imgname` (folder of the video / number of the frame), `pose_cam` (or `pose`)
    [R, 165] of SMPL-X or [R, 72] of SMPL in camera axes, `shape` [R, B], `cam_int` [R, 3, 3] of the stored image, and
    the translation: `trans_cam` [R, 3] + the last column of `cam_ext` [R, 4, 4]; `sub`: name of the person, if several.
    """
    content: dict[str, Any] = load(path)
    pose = content.get("pose_cam", content.get("pose")) if isinstance(content, dict) else None
    if pose is None or "imgname" not in content or "cam_int" not in content:
        raise DataError(f"{path}: lacks imgname, pose_cam or cam_int: another format, or another version")
    names = [str(name) for name in content["imgname"]]
    of_smplx = np.shape(pose)[-1] == 165
    pose = shaped(pose, len(names), 55 if of_smplx else 24, 3)
    shift = np.zeros((len(names), 3))
    if "cam_ext" in content:
        shift = shift + np.asarray(content["cam_ext"], np.float64)[:, :3, 3]
    if "trans_cam" in content:
        shift = shift + shaped(content["trans_cam"], len(names), 3)
    subjects = [str(name) for name in content.get("sub", [""] * len(names))]
    K = shaped(content["cam_int"], len(names), 3, 3)
    people: list[Result] = []
    wanted = [video is None or video_of(name) == video for name in names]
    for subject in sorted({s for s, mine in zip(subjects, wanted, strict=True) if mine}):
        rows = np.array([i for i, s in enumerate(subjects) if wanted[i] and s == subject])
        frames, first = np.unique([number(Path(names[i])) for i in rows], return_index=True)
        rows = rows[first]
        camera = Camera(K[rows, 0, 0], K[rows, :2, 2], size)
        people.append(
            Person(
                subject or path.stem, frames, pose[rows, 0], pose[rows, 1:22],
                pose[rows, 25:].reshape(-1, 2, 15, 3) if of_smplx else None,
                shift[rows] if of_smplx else shift[rows] + SMPL_PELVIS, not of_smplx,
                mean_betas(np.asarray(content["shape"])[rows]) if of_smplx and "shape" in content else None, camera,
            )
        )  # fmt: skip
    return people


def bedlam_videos(path: Path) -> list[str]:
    """Return the names of the videos that a file of BEDLAM's labels is about."""
    content = load(path)
    if not isinstance(content, dict) or "imgname" not in content:
        raise DataError(f"{path}: lacks imgname: another format, or another version")
    return sorted({video_of(str(name)) for name in content["imgname"]})


def multihmr(path: Path, size: tuple[float, float]) -> list[Result]:
    """Read a folder with Multi-HMR's list of `humans` per frame (github.com/naver/multi-hmr, model.py), as pickles.

    Of each: `rotvec` [53, 3] (root, 21 body joints, 2 x 15 of the hands, jaw), `transl_pelvis` [1, 3], `shape` [10]
    of SMPL-X. The image is padded to a square, its field of view taken as 60 degrees. People are linked over frames by
    the nearest pelvis. Files are numbered from 0 or, without a 0, from 1.
    """
    files = {number(file): file for file in path.iterdir() if file.suffix in (".pkl", ".pt", ".npy", ".npz")}
    first = 0 if 0 in files else 1
    tracks: list[dict[int, tuple[Array, Array, Array]]] = []
    for frame, file in sorted(files.items()):
        left = [track for track in tracks if frame - first - max(track) <= 2]
        for human in _people(load(file), file, "rotvec", "transl_pelvis", "shape"):
            pelvis = shaped(human["transl_pelvis"], 3)
            away = [float(np.linalg.norm(track[max(track)][1] - pelvis)) for track in left]
            if away and min(away) < JUMP:
                track = left.pop(int(np.argmin(away)))
            else:
                tracks.append(track := {})
            track[frame - first] = shaped(human["rotvec"], -1, 3), pelvis, shaped(human["shape"], -1)
    people: list[Result] = []
    for k, track in enumerate(tracks):
        frames = np.array(sorted(track), np.int64)
        pose, pelvis, betas = (np.stack([track[t][i] for t in frames]) for i in range(3))
        focal = max(size) / 2 / np.tan(np.radians(MULTIHMR_VIEW / 2))
        camera = centred(focal, np.array(size) / 2, len(frames), size)
        hands = pose[:, 22:52].reshape(-1, 2, 15, 3)
        people.append(
            Person(f"person {k}", frames, pose[:, 0], pose[:, 1:22], hands, pelvis, True, mean_betas(betas), camera)
        )
    return people


def easymocap(path: Path, size: tuple[float, float]) -> list[Result]:
    """Read the folder `smpl` or `smplx` of EasyMocap (github.com/zju3dv/EasyMocap, doc/02_output.md).

    A JSON file per frame, numbered from 0, with a list of people: `id`, `Rh` [1, 3], `Th` [1, 3], `poses` [1, 72] of
    SMPL, [1, 78] of SMPL+H or [1, 87] of SMPL-X (the root is zero, hands are PCA coefficients and are left out). The
    body is turned about the origin, not about the pelvis: x = R X + T, in the world of the calibration.
    """
    rows = _frames_of(path, "Rh", "Th", "poses")
    people: list[Result] = []
    for person, by_frame in sorted(rows.items()):
        frames = np.array(sorted(by_frame), np.int64)
        orient, shift = (np.stack([shaped(by_frame[t][name], 3) for t in frames]) for name in ("Rh", "Th"))
        poses = np.stack([shaped(by_frame[t]["poses"], -1) for t in frames])
        rest = SMPLX_PELVIS if poses.shape[1] == 87 else SMPL_PELVIS
        pelvis = Rotation.from_rotvec(orient).apply(rest) + shift
        body = shaped(poses[:, 3:66], len(frames), 21, 3)
        people.append(Person(f"person {person}", frames, orient, body, None, pelvis, True, None, None))
    return people


def easymocap_points(path: Path, size: tuple[float, float]) -> list[Result]:
    """Read the folder `keypoints3d` of EasyMocap: a JSON file per frame, `keypoints3d` [25, 4] of BODY_25 per person:
    x, y, z in the world of the calibration, confidence."""
    people: list[Result] = []
    for person, by_frame in sorted(_frames_of(path, "keypoints3d").items()):
        frames = np.array(sorted(by_frame), np.int64)
        points = np.stack([shaped(by_frame[t]["keypoints3d"], -1, 4)[:25] for t in frames])
        world = points[:, list(BODY25)]
        people.append(Points(f"person {person}", frames, tuple(BODY25.values()), world=world))
    return people


def motionbert(path: Path, size: tuple[float, float]) -> list[Result]:
    """Read `X3D.npy` of MotionBERT (github.com/Walter0807/MotionBERT, infer_wild.py), made with `--pixel`.

    [N, 17, 3] joints of Human3.6M in all frames of the video: x, y about the image's centre and depth, all in halves of
    the shorter side.
    """
    joints = np.asarray(load(path), np.float64)
    if joints.ndim != 3 or joints.shape[1:] != (17, 3):
        raise DataError(f"{path}: an array of the shape {joints.shape} is not [N, 17, 3]")
    chosen = joints[:, list(H36M)] * min(size) / 2
    seen = np.ones((*chosen.shape[:2], 1))
    pixels = np.concatenate([chosen[..., :2] + np.array(size) / 2, seen], 2)
    shape = np.concatenate([chosen, seen], 2)
    return [Points(path.parent.name, np.arange(len(joints)), tuple(H36M.values()), shape, pixels, size)]


def video_of(image: str) -> str:
    """Return the folder of an image, which names the video."""
    return Path(image).parent.name


def number(file: Path) -> int:
    """Return the last number in a file's name. Raises `DataError` if there is none."""
    found = re.findall(r"\d+", file.stem)
    if not found:
        raise DataError(f"{file}: has no frame number in its name")
    return int(found[-1])


def _frames_of(path: Path, *keys: str) -> dict[int, dict[int, dict[str, Any]]]:
    """Return the people in a folder of JSON files: by id, by frame."""
    rows: dict[int, dict[int, dict[str, Any]]] = {}
    for file in sorted(path.glob("*.json")):
        for row in _people(load(file), file, "id", *keys):
            rows.setdefault(int(row["id"]), {})[number(file)] = row
    return rows


def _people(content: Any, file: Path, *keys: str) -> list[dict[str, Any]]:
    rows = content.get("annots", content.get("humans")) if isinstance(content, dict) else content
    if not isinstance(rows, list) or not all(isinstance(row, dict) and all(k in row for k in keys) for row in rows):
        raise DataError(f"{file}: is no list of people with {', '.join(keys)}")
    return rows
