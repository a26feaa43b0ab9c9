"""Read camera paths of the test data as OpenCV world_to_camera, following its FORMAT.md."""

import csv
import json
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation


def unreal_point(x: float, y: float, z: float) -> np.ndarray:
    """Convert Unreal centimetres to metres with x right, y down, z forward."""
    return np.array([y, -z, x]) / 100


def bedlam_cameras(path: Path, width: int = 1280, height: int = 720) -> tuple[np.ndarray, np.ndarray]:
    """Read a BEDLAM camera csv: world_to_camera [T, 3, 4], K [T, 3, 3]."""
    cameras, intrinsics = [], []
    for row in csv.DictReader(path.open()):
        v = {k: float(x) for k, x in row.items() if k != "name"}
        angles = [-v["roll"], -v["pitch"], -v["yaw"]]
        R = Rotation.from_euler("ZXY", angles, degrees=True).as_matrix()  # Rz(-roll) Rx(-pitch) Ry(-yaw)
        cameras.append(np.c_[R, -R @ unreal_point(v["x"], v["y"], v["z"])])
        fx, fy = v["focal_length"] / v["sensor_width"] * width, v["focal_length"] / v["sensor_height"] * height
        intrinsics.append([[fx, 0, width / 2], [0, fy, height / 2], [0, 0, 1]])
    return np.array(cameras), np.array(intrinsics)


def bedlam_subject(labels: Path, sequence: str, world_to_camera: np.ndarray) -> np.ndarray:
    """Return the root joint of the first body of a sequence in the camera frame, [T, 3] metres."""
    data = np.load(labels)
    subject = np.full((len(world_to_camera), 3), np.nan)
    for name, joints in zip(data["imgname"], data["joints3d_world_ue"], strict=True):
        frame = int(str(name)[-8:-4])
        if str(name).startswith(sequence) and np.isnan(subject[frame, 0]):
            camera = world_to_camera[frame]
            subject[frame] = camera[:, :3] @ unreal_point(*joints[0]) + camera[:, 3]
    return subject


def multicam_cameras(path: Path, camera: str) -> np.ndarray:
    """Read one camera of a MultiCamVideo file: world_to_camera [T, 3, 4]."""
    cameras = []
    for frame in json.loads(path.read_text()).values():
        rows = np.array(frame[camera].replace("[", "").replace("]", "").split(), dtype=float).reshape(4, 4)
        forward, right, up, position = rows[:, :3]
        to_world = np.stack([right, -up, forward], axis=1)  # columns: camera x, y, z in Unreal's world
        mirror = np.diag([1.0, -1.0, 1.0])  # Unreal's world is left-handed
        R = (mirror @ to_world).T
        cameras.append(np.c_[R, -R @ (mirror @ position / 100)])
    return np.array(cameras)


def humanvid_cameras(path: Path) -> np.ndarray:
    """Read a HumanVid trajectory (camera to world) as world_to_camera [T, 3, 4]."""
    rows = np.loadtxt(path)
    R = Rotation.from_quat(rows[:, 4:8]).as_matrix().transpose(0, 2, 1)
    centres = rows[:, 1:4] * rows[:, 10:11]
    return np.concatenate([R, -np.einsum("tij,tj->ti", R, centres)[..., None]], axis=2)
