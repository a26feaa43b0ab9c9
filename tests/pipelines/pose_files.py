"""Write results of other programs as their descriptions say, of a motion whose joints in the camera are known."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import torch
from scipy.spatial.transform import Rotation

from opendimo.model.body.load import Body

SIZE = (640, 480)
SMPL_ROOT = np.array([-0.001795, -0.223333, 0.028219])  # SMPL neutral, joint 0 of the T-pose
SMPLX_ROOT = np.array([0.00312, -0.35141, 0.01204])  # SMPL-X neutral
FRAMES = 6


def camera_of(focal: float) -> np.ndarray:
    return np.array([[focal, 0, SIZE[0] / 2], [0, focal, SIZE[1] / 2], [0, 0, 1]])


@dataclass
class Known:
    """A motion of N frames in camera axes: axis-angle rotations, SMPL-X translation, and its `joints` [N, 52, 3]."""

    orient: np.ndarray
    body: np.ndarray
    hands: np.ndarray
    transl: np.ndarray
    joints: np.ndarray
    rest: np.ndarray
    frames: np.ndarray = field(default_factory=lambda: np.arange(FRAMES))

    @property
    def pelvis(self) -> np.ndarray:
        return self.joints[:, 0]


def known(model: Body, depth: float, frames: int = FRAMES) -> Known:
    """Return a person `depth` metres away, right of the middle, who faces the camera, turns and bends."""
    rng = np.random.default_rng(0)
    facing = Rotation.from_rotvec([np.pi, 0, 0])  # the body's Y is up, the camera's is down
    orient = np.stack([(Rotation.from_rotvec([0, 0.1 * t, 0]) * facing).as_rotvec() for t in range(frames)])
    body = rng.normal(0, 0.15, (21, 3)) + 0.01 * np.arange(frames)[:, None, None]
    hands = rng.normal(0, 0.2, (2, 15, 3)) + np.zeros((frames, 1, 1, 1))
    rest = model.rest_joints(torch.zeros(10))[0].numpy()
    transl = np.stack([0.1 * depth + 0.01 * np.arange(frames), np.full(frames, 0.05), np.full(frames, depth)], 1) - rest
    values = (torch.tensor(v, dtype=torch.float32) for v in (orient, body, hands, transl, np.zeros(10)))
    return Known(orient, body, hands, transl, model.joints(*values).numpy().astype(float), rest, np.arange(frames))


def smpl(m: Known) -> np.ndarray:
    """[N, 24, 3]: root, 21 joints, and the two hand joints of SMPL."""
    return np.concatenate([m.orient[:, None], m.body, np.zeros((len(m.orient), 2, 3))], 1)


def smplx(m: Known) -> np.ndarray:
    """[N, 55, 3]: root, 21 joints, jaw and eyes, the hands."""
    n = len(m.orient)
    return np.concatenate([m.orient[:, None], m.body, np.zeros((n, 3, 3)), m.hands.reshape(n, 30, 3)], 1)


def matrices(pose: np.ndarray) -> np.ndarray:
    return Rotation.from_rotvec(pose.reshape(-1, 3)).as_matrix().reshape(*pose.shape[:-1], 3, 3)


def gvhmr(folder: Path, m: Known, focal: float) -> None:
    n = len(m.orient)
    body = {
        "global_orient": m.orient,
        "body_pose": m.body.reshape(n, 63),
        "betas": np.zeros((n, 10)),
        "transl": m.transl,
    }
    tensors = {key: torch.tensor(value, dtype=torch.float32) for key, value in body.items()}
    K = torch.tensor(camera_of(focal)).repeat(n, 1, 1)
    whole = {"smpl_params_global": tensors, "smpl_params_incam": tensors, "K_fullimg": K, "net_outputs": {"a": [K]}}
    torch.save(whole, folder / "hmr4d_results.pt")


def wham(folder: Path, m: Known, focal: float) -> None:
    from collections import defaultdict

    rows: Any = defaultdict(dict)
    trans = m.pelvis - SMPL_ROOT
    rows[0] = {"pose": np.float32(smpl(m).reshape(-1, 72)), "trans": trans, "frame_ids": m.frames, "betas": np.ones(10)}
    rows[0] |= {"pose_world": np.zeros((len(trans), 72)), "verts": np.zeros((len(trans), 20, 3), np.float32)}
    joblib.dump(rows, folder / "wham_output.pkl")


def tram(folder: Path, m: Known, focal: float) -> None:
    (folder / "hps").mkdir()
    camera = {"img_focal": np.float64(focal), "img_center": np.array(SIZE) / 2, "pred_cam_R": np.eye(3)[None]}
    np.save(folder / "camera.npy", camera)  # type: ignore[arg-type]
    row = {
        "pred_rotmat": matrices(smpl(m)),
        "pred_trans": (m.pelvis - SMPL_ROOT)[:, None],
        "pred_shape": np.ones((1, 10)),
    }
    tensors = {key: torch.tensor(value, dtype=torch.float32) for key, value in row.items()}
    np.save(folder / "hps" / "hps_track_0.npy", tensors | {"frame": torch.tensor(m.frames)})  # type: ignore[arg-type]


def prompthmr(folder: Path, m: Known, focal: float) -> None:
    body = {"pose": smplx(m).reshape(-1, 165), "trans": m.transl, "shape": np.zeros((len(m.orient), 10))}
    half = {"img_focal": focal / 2, "img_center": np.array(SIZE) / 4}  # it read frames of half the size
    people = {1: {"frames": m.frames, "smplx_cam": body, "track_id": 1}}
    joblib.dump({"camera": half, "people": people, "has_slam": True, "masks": None}, folder / "results.pkl")


def phalp(folder: Path, m: Known, focal: float) -> None:
    rows = {}
    turns = matrices(smpl(m))
    for t in m.frames:
        body = {"global_orient": turns[t, :1], "body_pose": turns[t, 1:], "betas": np.zeros(10)}
        rows[f"frames/{t:06d}.jpg"] = {
            "time": int(t), "tid": [3], "tracked_ids": [3], "tracked_time": [0], "smpl": [body],
            "camera": [m.pelvis[t] - SMPL_ROOT], "size": [[SIZE[1], SIZE[0]]],
        }  # fmt: skip
    joblib.dump(rows, folder / f"demo_{folder.name}.pkl", compress=3)


def bedlam(folder: Path, m: Known, focal: float) -> None:
    n = len(m.orient)
    outside = np.tile(np.eye(4), (n, 1, 1))
    outside[:, :3, 3] = [0.3, -0.2, 1.0]
    np.savez(
        folder.parent / "labels.npz",
        imgname=[f"{folder.name}/{folder.name}_{t:04d}.png" for t in m.frames], pose_cam=smplx(m).reshape(n, 165),
        trans_cam=m.transl - outside[:, :3, 3], cam_ext=outside, cam_int=np.tile(camera_of(focal), (n, 1, 1)),
        shape=np.zeros((n, 11)), sub=["rp_a"] * n,
    )  # fmt: skip


def camerahmr(folder: Path, m: Known, focal: float) -> None:
    n = len(m.orient)
    outside = np.tile(np.eye(4), (n, 1, 1))
    outside[:, :3, 3] = m.pelvis - SMPL_ROOT
    np.savez(
        folder.parent / "labels.npz",
        imgname=np.array([f"{folder.name}/{t:06d}.jpg" for t in m.frames], object), pose=smpl(m).reshape(n, 72),
        cam_ext=outside, cam_int=np.tile(camera_of(focal), (n, 1, 1)), shape=np.ones((n, 10)),
    )  # fmt: skip


def multihmr(folder: Path, m: Known, focal: float) -> None:
    (folder / "humans").mkdir()
    n = len(m.orient)
    pose = np.concatenate([m.orient[:, None], m.body, m.hands.reshape(n, 30, 3), np.zeros((n, 1, 3))], 1)
    for t in range(n):
        person = {"rotvec": pose[t], "transl_pelvis": m.pelvis[t][None], "shape": np.zeros(10)}
        other = person | {"transl_pelvis": m.pelvis[t][None] + 2.0}
        humans = [
            {k: torch.tensor(v, dtype=torch.float32) for k, v in p.items()} for p in (other, person)[:: 1 - 2 * (t % 2)]
        ]
        torch.save(humans, folder / "humans" / f"{t + 1:06d}.pt")


def easymocap(folder: Path, m: Known, focal: float) -> None:
    (folder / "smpl").mkdir()
    R = Rotation.from_rotvec(m.orient)
    shift = m.pelvis - R.apply(SMPL_ROOT)
    for t in m.frames:
        poses = np.concatenate([np.zeros(3), m.body[t].ravel(), np.zeros(6)])
        row = {"id": 0, "Rh": [m.orient[t].tolist()], "Th": [shift[t].tolist()], "poses": [poses.tolist()]}
        (folder / "smpl" / f"{t:06d}.json").write_text(json.dumps([row | {"shapes": [[0.0] * 10]}]))


def amass(folder: Path, m: Known, focal: float) -> None:
    poses = np.concatenate([smplx(m)[:, :22], smplx(m)[:, 25:]], 1).reshape(-1, 156)
    fast = np.repeat(poses, 4, 0), np.repeat(m.pelvis - SMPL_ROOT, 4, 0)  # 120 frames per second
    np.savez(folder / f"{folder.name}_poses.npz", poses=fast[0], trans=fast[1], mocap_framerate=120.0, gender="male")


BODY25_OF = {2: 17, 3: 19, 4: 21, 5: 16, 6: 18, 7: 20, 9: 2, 10: 5, 11: 8, 12: 1, 13: 4, 14: 7}
H36M_OF = {0: 0, 1: 2, 2: 5, 3: 8, 4: 1, 5: 4, 6: 7, 11: 16, 12: 18, 13: 20, 14: 17, 15: 19, 16: 21}


def easymocap_points(folder: Path, m: Known, focal: float) -> None:
    (folder / "keypoints3d").mkdir()
    for t in m.frames:
        points = np.zeros((25, 4))
        for theirs, ours in BODY25_OF.items():
            points[theirs] = [*m.joints[t, ours], 0.9]
        row = {"id": 0, "keypoints3d": points.tolist()}
        (folder / "keypoints3d" / f"{t:06d}.json").write_text(json.dumps([row]))


def motionbert(folder: Path, m: Known, focal: float) -> None:
    joints = np.zeros((len(m.orient), 17, 3))
    pixels = m.joints @ camera_of(focal).T
    pixels = pixels[..., :2] / pixels[..., 2:] - np.array(SIZE) / 2
    depth = (m.joints[..., 2] - m.joints[:, :1, 2]) * focal / m.joints[:, :1, 2]
    for theirs, ours in H36M_OF.items():
        joints[:, theirs] = np.concatenate([pixels[:, ours], depth[:, ours, None]], 1) / (min(SIZE) / 2)
    joints[:, 9] = joints[:, 8] = (joints[:, 11] + joints[:, 14]) / 2
    np.save(folder / "X3D.npy", joints)


DIAGONAL = float(np.hypot(*SIZE))
WRITERS: dict[str, tuple[Callable[[Path, Known, float], None], float, bool]] = {
    "gvhmr": (gvhmr, DIAGONAL, False), "wham": (wham, DIAGONAL, False), "tram": (tram, 700.0, False),
    "prompthmr": (prompthmr, 700.0, True), "4dhumans": (phalp, 5000 / 256 * 640, False),
    "bedlam": (bedlam, 700.0, True), "camerahmr": (camerahmr, 700.0, False),
    "multihmr": (multihmr, 320 / np.tan(np.pi / 6), True), "easymocap": (easymocap, 700.0, False),
    "amass": (amass, 700.0, True), "easymocap_points": (easymocap_points, 700.0, False),
    "motionbert": (motionbert, 700.0, False),
}  # fmt: skip
"""Formats: writer, focal length that the format assumes or the file states, whether it has hands."""
