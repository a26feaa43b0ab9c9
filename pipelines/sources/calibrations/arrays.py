"""Camera paths in NumPy archives (npz) of estimators, one moving camera each.

MegaSaM and its DROID step (also SpatialVID's): `cam_c2w` [T, 4, 4] camera to world and one `intrinsic` [3, 3], in
pixels of `images` [T, H, W, 3]. ViPE: `pose/NAME.npz` with `data` [N, 4, 4] camera to world and `inds` [N] frames,
beside `intrinsics/NAME.npz` with `data` [N, 4] fx, fy, cx, cy in pixels of the video. VGGT: `predictions.npz` with
`extrinsic` [T, 3, 4] world to camera and `intrinsic` [T, 3, 3], in pixels of its resized picture, whose middle is the
principal point. All have OpenCV's axes and are not metric unless the user states a unit.
"""

from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from opendimo.pipelines.engine.stage import DataError
from opendimo.pipelines.sources.calibration import Calibration, Camera, make_camera
from opendimo.pipelines.sources.calibrations.document import Document, read_document

Array = NDArray[np.float64]

NAME = "npz (MegaSaM, ViPE, VGGT)"
CAMERA = "camera"
MEGASAM, VIPE, VGGT = {"cam_c2w", "intrinsic"}, {"data", "inds"}, {"extrinsic", "intrinsic"}
"""Names of arrays in the archives."""
PINHOLE = "PINHOLE"


def fits(document: Document) -> bool:
    """Return whether the document is an archive with the arrays of one of the estimators."""
    return document.syntax == "npz" and any(names <= set(document.tree.arrays) for names in (MEGASAM, VIPE, VGGT))


def read(document: Document) -> Calibration:
    """Read the path as one moving camera."""
    names, files = set(document.tree.arrays), (document.path,)
    if names >= MEGASAM:
        return Calibration(files, NAME, {CAMERA: partial(_megasam, document)}, moving=(CAMERA,))
    if names >= VGGT:
        return Calibration(files, NAME, {CAMERA: partial(_vggt, document)}, moving=(CAMERA,))
    lens = document.path.parent.parent / "intrinsics" / document.path.name
    if not lens.is_file():
        raise DataError(f"{document.path}: ViPE's intrinsics of this path are missing: put them into {lens}")
    return Calibration((*files, lens), NAME, {CAMERA: partial(_vipe, document, lens)}, moving=(CAMERA,))


def _megasam(document: Document) -> Camera:
    to_world, K = (document.tree.arrays[name] for name in ("cam_c2w", "intrinsic"))
    shape = document.tree.shapes.get("images", ())
    if len(shape) != 4:
        raise ValueError("it has no images [T, H, W, 3]: the size that the intrinsics are of is unknown")
    return _moving(_inverted(to_world), K=K, size=(shape[2], shape[1]), numbers=range(len(to_world)))


def _vipe(document: Document, lens: Path) -> Camera:
    to_world, frames = (document.tree.arrays[name] for name in ("data", "inds"))
    kinds = lens.with_name(f"{lens.stem}_camera.txt")
    if kinds.is_file() and any(PINHOLE not in line for line in kinds.read_text().splitlines() if line.strip()):
        raise ValueError(f"{kinds.name} names another camera than {PINHOLE}: undistort the video first")
    intrinsics = read_document(lens)
    arrays = intrinsics.tree.arrays if intrinsics.syntax == "npz" else {}
    if not set(arrays) >= VIPE or arrays["data"].shape != (len(arrays["inds"]), 4):
        raise ValueError(f"{lens} lacks data [N, 4] and inds [N]")
    at = np.searchsorted(arrays["inds"], frames)
    if len(arrays["inds"]) < len(frames) or not np.array_equal(np.take(arrays["inds"], at, mode="clip"), frames):
        raise ValueError(f"{lens} lacks frames of the path")
    fx, fy, cx, cy = arrays["data"][at].T
    zero, one = np.zeros_like(fx), np.ones_like(fx)
    K = np.stack([fx, zero, cx, zero, fy, cy, zero, zero, one], axis=1).reshape(-1, 3, 3)
    return _moving(_inverted(to_world), K=K, size=None, numbers=frames.tolist())


def _vggt(document: Document) -> Camera:
    pose, K = (document.tree.arrays[name] for name in ("extrinsic", "intrinsic"))
    if pose.ndim != 3 or pose.shape[1:] != (3, 4) or K.shape != (len(pose), 3, 3):
        raise ValueError(f"extrinsic has shape {pose.shape} and intrinsic {K.shape}, expected [T, 3, 4] and [T, 3, 3]")
    focal = K[:, 0, 0] / (2 * K[:, 0, 2])  # in widths: the picture is resized to whole patches, a little unevenly
    K = np.eye(3) * np.stack([focal, focal, np.ones_like(focal)], axis=1)[:, None, :]
    return make_camera(
        size=None,
        K=K,
        R=pose[:, :, :3],
        t=pose[:, :, 3],
        metric=False,
        from_corner=True,
        numbers=tuple(range(len(pose))),
        unsized=True,
    )


def _moving(pose: Array, K: Array, size: tuple[int, int] | None, numbers: range | list[float]) -> Camera:
    order = tuple(int(number) for number in numbers)
    if order != tuple(numbers) or (np.diff(order) <= 0).any() or order[0] < 0:
        raise ValueError("frame numbers should be whole and rise")
    return make_camera(size=size, K=K, R=pose[:, :, :3], t=pose[:, :, 3], metric=False, numbers=order)


def _inverted(pose: Array) -> Array:
    """Return world to camera [T, 3, 4] of camera to world [T, 4, 4]."""
    if pose.ndim != 3 or pose.shape[1:] != (4, 4) or not len(pose):
        raise ValueError(f"camera to world has shape {pose.shape}, expected [T, 4, 4]")
    R = pose[:, :3, :3].transpose(0, 2, 1)
    return np.concatenate([R, -R @ pose[:, :3, 3:]], axis=2)
