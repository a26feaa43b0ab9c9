"""Readers of results with one file per video: GVHMR, WHAM, TRAM, PromptHMR, 4D-Humans (PHALP), AMASS.

Each reader takes the path and the upright size of the video (width, height), and returns every person. Bodies are in
the axes of the camera (OpenCV) unless stated otherwise; the published results in the tools' own world frames are not
read, because the clip's camera is not known in them.
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from opendimo.pipelines.engine.stage import DataError
from opendimo.pipelines.poses.imports.result import (
    SMPL_PELVIS,
    Array,
    Camera,
    Person,
    Result,
    axis_angle,
    centred,
    mean_betas,
    shaped,
)
from opendimo.pipelines.poses.imports.safe import load

HMR_FOCAL, HMR_CROP = 5000.0, 256.0
"""Focal length that HMR 2.0 and HaMeR assume, in pixels of a crop of this size: 19.5 x the longer side of the image."""


def gvhmr(path: Path, size: tuple[float, float]) -> list[Result]:
    """Read `hmr4d_results.pt` of GVHMR (github.com/zju3dv/GVHMR, tools/demo/demo.py).

    `torch.save` of `smpl_params_incam`: SMPL-X global_orient [N, 3], body_pose [N, 63], betas [N, 10], transl [N, 3],
    and `K_fullimg` [N, 3, 3]; one person in all frames; the focal length is the image's diagonal.
    """
    content = _keys(load(path), path, "smpl_params_incam", "K_fullimg")
    body = _keys(content["smpl_params_incam"], path, "global_orient", "body_pose", "betas", "transl")
    orient = shaped(body["global_orient"], -1, 3)
    n, K = len(orient), np.asarray(content["K_fullimg"], np.float64).reshape(-1, 3, 3)
    camera = Camera(
        np.broadcast_to(K[:, 0, 0], (n,)),
        np.broadcast_to(K[:, :2, 2], (n, 2)),
        (2 * float(K[0, 0, 2]), 2 * float(K[0, 1, 2])),
    )
    return [
        Person(
            path.parent.name, np.arange(n), orient, shaped(body["body_pose"], n, 21, 3), None,
            shaped(body["transl"], n, 3), False, mean_betas(body["betas"]), camera,
        )
    ]  # fmt: skip


def wham(path: Path, size: tuple[float, float]) -> list[Result]:
    """Read `wham_output.pkl` of WHAM (github.com/yohanshin/WHAM, demo.py).

    joblib's pickle of a dict by track: SMPL `pose` [N, 72] in camera axes, `trans` [N, 3], `frame_ids` [N]. Without a
    calibration, which the file does not hold, the focal length is the image's diagonal.
    """
    people: list[Result] = []
    for track, value in _dict(load(path), path).items():
        row = _keys(value, path, "pose", "trans", "frame_ids")
        frames = np.asarray(row["frame_ids"], np.int64).ravel()
        pose = shaped(row["pose"], len(frames), 24, 3)
        camera = centred(np.hypot(*size), np.array(size) / 2, len(frames), size)
        position = shaped(row["trans"], len(frames), 3) + SMPL_PELVIS
        people.append(_smpl(f"track {track}", frames, pose, position, camera))
    return people


def tram(path: Path, size: tuple[float, float]) -> list[Result]:
    """Read the folder `hps` of TRAM beside `camera.npy` (github.com/yufu-wang/tram, lib/models/hmr_vimo.py).

    `hps_track_K.npy`: a dict of tensors: SMPL `pred_rotmat` [N, 24, 3, 3], `pred_trans` [N, 1, 3], `frame` [N];
    `camera.npy`: a dict with `img_focal` and `img_center` (half of the image's size).
    """
    camera = _keys(load(path.parent / "camera.npy"), path.parent / "camera.npy", "img_focal", "img_center")
    people: list[Result] = []
    for file in sorted(path.glob("hps_track_*.npy")):
        row = _keys(load(file), file, "pred_rotmat", "pred_trans", "frame")
        frames, chosen = np.unique(np.asarray(row["frame"], np.int64).ravel(), return_index=True)
        pose = axis_angle(shaped(row["pred_rotmat"], -1, 24, 3, 3)[chosen])
        position = shaped(row["pred_trans"], -1, 3)[chosen] + SMPL_PELVIS
        own = centred(camera["img_focal"], camera["img_center"], len(frames))
        people.append(_smpl(file.stem, frames, pose, position, own))
    return people


def prompthmr(path: Path, size: tuple[float, float]) -> list[Result]:
    """Read `results.pkl` of PromptHMR-Vid (github.com/yufu-wang/PromptHMR, pipeline/pipeline.py).

    joblib's pickle: `people` by track with `frames` [N] and `smplx_cam`: SMPL-X `pose` [N, 165] (axis-angle: root, 21
    body joints, 3 of the face, 2 x 15 of the hands, of a flat hand), `trans` [N, 3], `shape` [N, 10]; `camera`:
    `img_focal`, `img_center` of the frames it read, which are at most 896 pixels high.
    """
    content = _keys(load(path), path, "people", "camera")
    camera = _keys(content["camera"], path, "img_focal", "img_center")
    people: list[Result] = []
    for track, value in _dict(content["people"], path).items():
        row = _keys(value, path, "frames", "smplx_cam")
        body = _keys(row["smplx_cam"], path, "pose", "trans", "shape")
        frames = np.asarray(row["frames"], np.int64).ravel()
        pose = shaped(body["pose"], len(frames), 55, 3)
        own = centred(camera["img_focal"], camera["img_center"], len(frames))
        people.append(
            Person(
                f"track {track}", frames, pose[:, 0], pose[:, 1:22], pose[:, 25:].reshape(-1, 2, 15, 3),
                shaped(body["trans"], -1, 3), False, mean_betas(body["shape"]), own,
            )
        )  # fmt: skip
    return people


def phalp(path: Path, size: tuple[float, float]) -> list[Result]:
    """Read `demo_NAME.pkl` of PHALP with HMR 2.0 (github.com/shubham-goel/4D-Humans, track.py; brjathu/PHALP).

    joblib's pickle of a dict by frame: `time` (frame number), and lists over people: `tid`, `smpl` (rotation matrices:
    global_orient [1, 3, 3], body_pose [23, 3, 3]) and `camera` [3]: the translation for a focal length of 5000 pixels
    in the image padded to a square and scaled to 256 pixels. `tracked_time` is 0 where a person was really detected.
    """
    rows: dict[Any, dict[int, tuple[Array, Array]]] = {}
    for frame in _dict(load(path), path).values():
        row = _keys(frame, path, "time", "tid", "smpl", "camera")
        predicted = row.get("tracked_time") or [0] * len(row["tid"])
        for person, body, shift, ago in zip(row["tid"], row["smpl"], row["camera"], predicted, strict=False):
            if ago:
                continue
            _keys(body, path, "global_orient", "body_pose")
            turns = [shaped(body["global_orient"], 1, 3, 3), shaped(body["body_pose"], 23, 3, 3)]
            rows.setdefault(int(person), {})[int(row["time"])] = axis_angle(np.concatenate(turns)), shaped(shift, 3)
    people: list[Result] = []
    for person, by_frame in sorted(rows.items()):
        frames = np.array(sorted(by_frame), np.int64)
        pose, position = (np.stack([by_frame[t][k] for t in frames]) for k in range(2))
        camera = centred(HMR_FOCAL / HMR_CROP * max(size), np.array(size) / 2, len(frames), size)
        people.append(_smpl(f"person {person}", frames, pose, position + SMPL_PELVIS, camera))
    return people


def amass(path: Path, size: tuple[float, float]) -> list[Result]:
    """Read a motion of AMASS (amass.is.tue.mpg.de): for captures whose calibrated cameras are in the motion's world.

    .npz: `poses` [N, 156] (SMPL+H: root, 21 body joints, 2 x 15 of the hands) or [N, 165] (SMPL-X, with the face before
    the hands), `trans` [N, 3] and `mocap_framerate` (SMPL-X: `mocap_frame_rate`).
    """
    content = _keys(load(path), path, "poses", "trans")
    rate = content.get("mocap_framerate", content.get("mocap_frame_rate"))
    if rate is None:
        raise DataError(f"{path}: has no mocap_framerate")
    n = len(content["poses"])
    of_smplx = np.shape(content["poses"])[-1] == 165
    pose = shaped(content["poses"], n, 55 if of_smplx else 52, 3)
    position = shaped(content["trans"], n, 3)
    return [
        Person(
            path.stem, np.arange(n), pose[:, 0], pose[:, 1:22], pose[:, -30:].reshape(n, 2, 15, 3),
            position if of_smplx else position + SMPL_PELVIS, not of_smplx,
            mean_betas(content["betas"]) if of_smplx and "betas" in content else None, None, float(np.ravel(rate)[0]),
        )
    ]  # fmt: skip


def _smpl(name: str, frames: NDArray[np.int64], pose: Array, pelvis: Array, camera: Camera | None) -> Person:
    """Return a person from a SMPL pose [N, 24, 3], whose first 22 joints are those of SMPL-X."""
    return Person(name, frames, pose[:, 0], pose[:, 1:22], None, pelvis, True, None, camera)


def _dict(value: Any, path: Path) -> dict[Any, Any]:
    if not isinstance(value, dict):
        raise DataError(f"{path}: holds a {type(value).__name__}, expected a dict: another format, or another version")
    return value


def _keys(value: Any, path: Path, *names: str) -> dict[Any, Any]:
    if missing := [name for name in names if name not in _dict(value, path)]:
        raise DataError(f"{path}: lacks {', '.join(missing)}: another format, or another version")
    return value  # type: ignore[no-any-return]
