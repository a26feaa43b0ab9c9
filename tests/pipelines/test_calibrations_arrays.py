"""Camera paths of estimators (npz, TUM), by projection of a point as the formats are described."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from opendimo.pipelines.engine.stage import DataError
from opendimo.pipelines.sources.calibration import Camera, fit
from opendimo.pipelines.sources.calibrations import read_calibration

TURNED = np.array([[0.0, 0, 1], [0, 1, 0], [-1, 0, 0]])
"""Camera to world of a camera that looks along the world's +x: a quarter turn about y (down)."""
PLACES = np.array([[0.0, 0, 0], [2, 0, 0]])
POINT = np.array([5.0, 0.4, -1])
"""Seen by the second camera: 3 ahead, 1 to the right, 0.4 below."""
SIZE = (640, 360)


def to_world() -> np.ndarray:
    """Return camera to world [2, 4, 4]."""
    poses = np.tile(np.eye(4), (2, 1, 1))
    poses[1, :3, :3] = TURNED
    poses[:, :3, 3] = PLACES
    return poses


def seen(camera: Camera, frame: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    """Return the pixel of a video of `size`, counted from its corner, at which the point is seen."""
    K, pose = fit(camera, size, lambda: np.zeros((1, 1, 3), np.uint8))[frame], camera.world_to_camera[frame]
    image = K @ (pose[:, :3] @ POINT + pose[:, 3])
    return image[:2] / image[2]


def saved(path: Path, **arrays: Any) -> Camera:
    """Write an archive and return its camera."""
    path.parent.mkdir(exist_ok=True)
    np.savez(path, **arrays)
    calibration = read_calibration(path)
    assert calibration.sole == "camera"
    camera = calibration.camera("camera")
    assert not camera.metric
    return camera


def test_megasam_is_camera_to_world_in_pixels_of_its_images(tmp_path: Path) -> None:
    K = np.array([[300.0, 0, 159.5], [0, 300, 89.5], [0, 0, 1]])
    images, depths = np.zeros((2, 180, 320, 3), np.uint8), np.ones((2, 180, 320), np.float16)
    camera = saved(tmp_path / "sgd_cvd_hr.npz", images=images, depths=depths, intrinsic=K, cam_c2w=to_world())
    assert camera.numbers == (0, 1) and camera.size == (320, 180)
    assert seen(camera, 1) == pytest.approx([320 + 600 / 3, 180 + 600 * 0.4 / 3])


def test_vipe_is_camera_to_world_with_intrinsics_beside_it_and_frames_may_be_missing(tmp_path: Path) -> None:
    (tmp_path / "intrinsics").mkdir()
    lens = np.array([[500.0, 510, 319.5, 179.5], [1, 1, 1, 1], [600, 610, 319.5, 179.5]])
    np.savez(tmp_path / "intrinsics/a.npz", data=lens, inds=np.arange(3))
    camera = saved(tmp_path / "pose/a.npz", data=to_world().astype(np.float32), inds=np.array([0, 2]))
    assert camera.numbers == (0, 2) and camera.size is None
    assert seen(camera, 1) == pytest.approx([320 + 600 / 3, 180 + 610 * 0.4 / 3], abs=1e-3)
    (tmp_path / "intrinsics/a_camera.txt").write_text("0: PINHOLE\n1: PANORAMA\n")
    with pytest.raises(DataError, match="undistort"):
        read_calibration(tmp_path / "pose/a.npz").camera("camera")
    (tmp_path / "intrinsics/a.npz").unlink()
    with pytest.raises(DataError, match="intrinsics of this path are missing"):
        read_calibration(tmp_path / "pose/a.npz")


def test_vggt_is_world_to_camera_in_pixels_of_a_resized_picture(tmp_path: Path) -> None:
    """A video of 16:9 is resized to 518 x 294, which is not quite its shape."""
    K = np.tile([[518.0, 0, 259], [0, 518 * (294 / 518) / (360 / 640), 147], [0, 0, 1]], (2, 1, 1))
    pose = np.linalg.inv(to_world())[:, :3]
    camera = saved(tmp_path / "predictions.npz", extrinsic=pose, intrinsic=K, images=np.zeros((2, 3, 294, 518)))
    assert seen(camera, 1) == pytest.approx([320 + 640 / 3, 180 + 640 * 0.4 / 3])


@pytest.mark.parametrize("times", [("0", "1"), ("1305031102.1758", "1305031102.2112")])
@pytest.mark.parametrize("lens", ["600 610 319.5 179.5", "600 0 319.5 0 610 179.5 0 0 1"])
def test_tum_is_camera_to_world_and_finds_its_intrinsics(tmp_path: Path, times: tuple[str, str], lens: str) -> None:
    path, half = tmp_path / "path.txt", np.sqrt(0.5)
    path.write_text(f"# time x y z qx qy qz qw\n{times[0]} 0 0 0 0 0 0 1\n{times[1]} 2 0 0 0 {half} 0 {half}\n")
    with pytest.raises(DataError, match=r"path_intrinsics\.txt"):
        read_calibration(path)
    (tmp_path / "path_intrinsics.txt").write_text(lens)
    camera = read_calibration(path).camera("camera")
    assert camera.numbers == (0, 1) and not camera.metric
    assert seen(camera, 1) == pytest.approx([320 + 600 / 3, 180 + 610 * 0.4 / 3])


class Hostile:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_a_pickle_in_an_archive_is_refused_by_name_and_not_loaded(tmp_path: Path) -> None:
    proof = tmp_path / "proof"
    hostile = np.array([Hostile(proof)], dtype=object)
    assert pickle.dumps(hostile)
    np.savez(tmp_path / "path.npz", cam_c2w=to_world(), intrinsic=hostile)
    with pytest.raises(DataError, match=r"path\.npz: intrinsic holds pickled objects"):
        read_calibration(tmp_path / "path.npz")
    assert not proof.exists()


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"cam_c2w": np.eye(4), "intrinsic": np.eye(3), "images": np.zeros((2, 3, 4, 3))}, "expected .T, 4, 4."),
        ({"cam_c2w": to_world(), "intrinsic": np.eye(3)}, "no images"),
        ({"cam_c2w": to_world() * np.nan, "intrinsic": np.eye(3), "images": np.zeros((2, 3, 4, 3))}, "rotation|finite"),
        ({"other": np.eye(3)}, "no calibration that is known"),
    ],
)
def test_other_archives_are_refused(tmp_path: Path, arrays: dict[str, np.ndarray], message: str) -> None:
    np.savez(tmp_path / "path.npz", **arrays)
    with pytest.raises(DataError, match=message):
        read_calibration(tmp_path / "path.npz").camera("camera")


def test_a_broken_archive_is_named(tmp_path: Path) -> None:
    np.savez(tmp_path / "path.npz", cam_c2w=to_world(), intrinsic=np.eye(3))
    content = (tmp_path / "path.npz").read_bytes()
    (tmp_path / "path.npz").write_bytes(content[:60] + b"\0" * 60 + content[120:])
    with pytest.raises(DataError, match=r"path\.npz: not a readable npz"):
        read_calibration(tmp_path / "path.npz")
