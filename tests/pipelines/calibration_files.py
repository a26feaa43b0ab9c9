"""A rig of two cameras, written in every calibration format, and its projections by `cv2`."""

import json
from pathlib import Path

import cv2
import numpy as np

SIZE = (1280, 720)
K = np.array([[900.0, 0, 630], [0, 905, 352], [0, 0, 1]])  # as OpenCV counts pixels
DISTORTION = np.array([-0.21, 0.08, 0.003, -0.002, 0.01])
ROTATIONS = {"c01": np.array([0.1, -0.4, 0.2]), "c02": np.array([-0.2, 0.9, -0.1])}  # Rodrigues vectors
TRANSLATIONS = {"c01": np.array([0.2, -0.1, 4.0]), "c02": np.array([-0.3, 0.4, 5.0])}  # metres
WORLD = np.array([[0.3, -0.2, 0.5], [-0.6, 0.4, 0.1], [0.0, 0.9, -0.4], [0.5, 0.5, 0.5]])


def matrix(name: str) -> np.ndarray:
    return np.asarray(cv2.Rodrigues(ROTATIONS[name])[0])


def pixels(name: str, distortion: np.ndarray = DISTORTION) -> np.ndarray:
    """Project `WORLD` to pixels [N, 2] in OpenCV's pixel convention."""
    found = cv2.projectPoints(WORLD, ROTATIONS[name], TRANSLATIONS[name], K, distortion)[0]
    return np.asarray(found[:, 0])


def write_toml(path: Path) -> Path:
    """Write the rig in Pose2Sim's format."""
    text = "".join(
        f'[{n}]\nname = "{n}"\nsize = [{SIZE[0]}.0, {SIZE[1]}.0]\nmatrix = {K.tolist()}\n'
        f"distortions = {DISTORTION.tolist()}\nrotation = {ROTATIONS[n].tolist()}\n"
        f"translation = {TRANSLATIONS[n].tolist()}\nfisheye = false\n\n"
        for n in ROTATIONS
    )
    path.write_text(text + "[metadata]\nadjusted = false\nerror = 0.0\n")
    return path


def write_json(path: Path) -> Path:
    cameras = {
        n: {"size": SIZE, "K": K.tolist(), "dist": DISTORTION.tolist(), "R": matrix(n).tolist(),
            "t": TRANSLATIONS[n].tolist()}
        for n in ROTATIONS
    }  # fmt: skip
    path.write_text(json.dumps({"cameras": cameras}))
    return path


def write_opencv(path: Path) -> Path:
    """Write the rig with `cv2.FileStorage` (YAML, XML or JSON by suffix), one map per camera."""
    storage = cv2.FileStorage(str(path), cv2.FILE_STORAGE_WRITE)
    for n in ROTATIONS:
        storage.startWriteStruct(n, cv2.FileNode_MAP)
        storage.write("image_width", SIZE[0])
        storage.write("image_height", SIZE[1])
        storage.write("camera_matrix", K)
        storage.write("distortion_coefficients", DISTORTION)
        storage.write("rvec", ROTATIONS[n])
        storage.write("tvec", TRANSLATIONS[n])
        storage.endWriteStruct()
    storage.release()
    return path


def write_easymocap(folder: Path, scale: float = 1.0) -> Path:
    """Write the rig without image sizes, for images `scale` times as large."""
    for part in ("intri", "extri"):
        storage = cv2.FileStorage(str(folder / f"{part}.yml"), cv2.FILE_STORAGE_WRITE)
        storage.startWriteStruct("names", cv2.FileNode_SEQ)
        for n in ROTATIONS:
            storage.write("", n)
        storage.endWriteStruct()
        for n in ROTATIONS:
            if part == "intri":
                storage.write(f"K_{n}", np.diag([scale, scale, 1]) @ K)
                storage.write(f"dist_{n}", DISTORTION[None])
            else:
                storage.write(f"R_{n}", ROTATIONS[n][:, None])
                storage.write(f"Rot_{n}", matrix(n))
                storage.write(f"T_{n}", TRANSLATIONS[n][:, None])
        storage.release()
    return folder / "intri.yml"


def write_qualisys(path: Path, left: int = 0, top: int = 0) -> Path:
    """Write the rig by QTM's documentation: 1/64 pixel, millimetres, axes right, up, backwards as rows.

    `left`, `top`: the crop.
    """
    cameras = ""
    for n in ROTATIONS:
        axes = np.diag([1, -1, -1]) @ matrix(n)
        x, y, z = -matrix(n).T @ TRANSLATIONS[n] * 1000
        r = " ".join(f'r{i + 1}{j + 1}="{axes[i, j]:.12f}"' for i in range(3) for j in range(3))
        k1, k2, p1, p2, k3 = DISTORTION
        cameras += (
            f'<camera active="1" serial="{n}" viewrotation="0" model="none">'
            f'<fov_video left="{left}" right="{left + SIZE[0] - 1}" top="{top}" bottom="{top + SIZE[1] - 1}"/>'
            f'<transform {r} x="{x}" y="{y}" z="{z}"/><intrinsic skew="0" '
            f'focalLengthU="{K[0, 0] * 64}" focalLengthV="{K[1, 1] * 64}" '
            f'centerPointU="{(K[0, 2] + left) * 64}" centerPointV="{(K[1, 2] + top) * 64}" '
            f'radialDistortion1="{k1}" radialDistortion2="{k2}" radialDistortion3="{k3}" '
            f'tangentalDistortion1="{p1}" tangentalDistortion2="{p2}"/></camera>'
        )
    path.write_text(f"<?xml version='1.0'?><calibration><cameras>{cameras}</cameras></calibration>")
    return path


def write_panoptic(path: Path) -> Path:
    cameras = [
        {"name": n, "type": "hd", "resolution": SIZE, "K": K.tolist(), "distCoef": DISTORTION.tolist(),
         "R": matrix(n).tolist(), "t": (TRANSLATIONS[n] * 100)[:, None].tolist()}
        for n in ROTATIONS
    ]  # fmt: skip
    path.write_text(json.dumps({"calibDataSource": "x", "cameras": cameras}))
    return path


def write_aist(path: Path) -> Path:
    cameras = [
        {"name": n, "size": SIZE, "matrix": K.tolist(), "distortions": DISTORTION.tolist(),
         "rotation": ROTATIONS[n].tolist(), "translation": (TRANSLATIONS[n] * 100).tolist()}
        for n in ROTATIONS
    ]  # fmt: skip
    path.write_text(json.dumps(cameras))
    return path
