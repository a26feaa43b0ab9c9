"""Every calibration format, checked by projection with `cv2`; and files that are not calibrations."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from opendimo.pipelines.engine.stage import DataError
from opendimo.pipelines.sources.calibration import Camera, make_camera
from opendimo.pipelines.sources.calibrations import read_calibration
from opendimo.pipelines.sources.lens import pinhole_maps, undistort, undistort_points
from opendimo.storage_schemas.conventions import project, transform
from tests.pipelines import calibration_files as files

WRITERS = {
    "toml": lambda folder: files.write_toml(folder / "Calib.toml"),
    "json": lambda folder: files.write_json(folder / "calib.json"),
    "opencv yaml": lambda folder: files.write_opencv(folder / "calib.yml"),
    "opencv xml": lambda folder: files.write_opencv(folder / "calib.xml"),
    "opencv json": lambda folder: files.write_opencv(folder / "calib.json"),
    "easymocap": files.write_easymocap,
    "qualisys": lambda folder: files.write_qualisys(folder / "x.qca.txt"),
    "qualisys crop": lambda folder: files.write_qualisys(folder / "x.qca.txt", left=64, top=32),
    "panoptic": lambda folder: files.write_panoptic(folder / "calibration_x.json"),
    "aist": lambda folder: files.write_aist(folder / "setting1.json"),
}


def seen(camera: Camera) -> np.ndarray:
    """Project `WORLD` with `cv2` to the camera's pixels, minus the half pixel between the conventions."""
    R, t = camera.world_to_camera[0, :, :3], camera.world_to_camera[0, :, 3]
    found = cv2.projectPoints(files.WORLD, cv2.Rodrigues(R)[0], t, camera.K[0], np.array(camera.distortion))[0]
    return np.asarray(found[:, 0])


@pytest.mark.parametrize("form", WRITERS)
def test_each_format_sees_what_opencv_sees(tmp_path: Path, form: str) -> None:
    calibration = read_calibration(WRITERS[form](tmp_path))
    assert sorted(calibration.cameras) == ["c01", "c02"]
    for name in calibration.cameras:
        camera = calibration.camera(name)
        assert seen(camera) - 0.5 == pytest.approx(files.pixels(name), abs=1e-3)
        assert camera.metric and camera.size in (files.SIZE, None)


def test_formats_of_one_rig_agree(tmp_path: Path) -> None:
    for name in ("json", "qualisys", "panoptic"):
        (tmp_path / name).mkdir()
    a, b, c = (read_calibration(WRITERS[name](tmp_path / name)) for name in ("json", "qualisys", "panoptic"))
    assert a.agrees(b) and b.agrees(c)
    tree = json.loads((tmp_path / "json" / "calib.json").read_text())
    tree["cameras"]["c02"]["t"][0] += 0.001
    (tmp_path / "moved.json").write_text(json.dumps(tree))
    assert not a.agrees(read_calibration(tmp_path / "moved.json"))


def test_the_real_qualisys_file_says_what_its_conversion_says(data: Path) -> None:
    folder = data / "multiview" / "balance_1person_4cam"
    original, converted = (read_calibration(folder / name) for name in ("Calib.qca.txt", "calib_opencv.json"))
    assert original.agrees(converted) and len(original.cameras) == 4


def test_panoptic_is_in_metres_with_y_down(data: Path) -> None:
    """The studio is a dome about 5.5 m wide; people stand at y = 0, with their heads at smaller y."""
    folder = data / "multiview" / "panoptic_format_sample"
    calibration = read_calibration(folder / "calibration_160906_band1.json")
    assert len(calibration.cameras) == 520 and calibration.partial
    scene = json.loads((folder / "body3DScene_00000168.json").read_text())
    joints = np.array(scene["bodies"][0]["joints19"]).reshape(-1, 4)[:, :3] / 100
    camera = calibration.camera("00_00")
    inside = project(transform(joints[None], camera.world_to_camera), camera.K)[0]
    assert ((inside > 0) & (inside < camera.size)).mean() > 0.9
    down = np.array(calibration.gravity_down)
    assert joints[8] @ down > joints[0] @ down  # the knee (or a neighbouring joint) is below the neck


def test_easymocap_without_its_other_half_names_both(tmp_path: Path) -> None:
    files.write_easymocap(tmp_path)
    (tmp_path / "extri.yml").unlink()
    with pytest.raises(DataError, match=r"intri\.yml and extri\.yml: both are needed"):
        read_calibration(tmp_path / "intri.yml")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.json", '{"some": "thing"}'),
        ("a.toml", "[server]\nport = 1\n"),
        ("a.xml", "<calibration><cameras/></calibration>"),
        ("a.yml", "cam0:\n  camera_model: pinhole\n"),
        ("a.yml", "%YAML:1.0\n---\nnumber: 3\n"),
        ("a.txt", "nothing that anybody knows"),
    ],
)
def test_an_unknown_format_lists_what_was_tried(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=r"tried: OpenCV .*EasyMocap.*Qualisys.*Panoptic.*AIST.*COLMAP.*nerfstudio"):
        read_calibration(tmp_path / name)


def test_a_file_in_two_formats_at_once_is_not_guessed_at(tmp_path: Path) -> None:
    path = files.write_json(tmp_path / "calib.json")
    tree = json.loads(path.read_text())
    tree["frames"] = [{"transform_matrix": np.eye(4).tolist(), "file_path": "a"}]
    path.write_text(json.dumps(tree))
    with pytest.raises(DataError, match="several formats at once"):
        read_calibration(path)


@pytest.mark.parametrize(
    "text",
    [
        '<!DOCTYPE x [<!ENTITY a "b">]><calibration>&a;</calibration>',
        "[" * 100_000,
        '{"c": {"camera_matrix": {"rows": 3, "cols": 3, "data": [1, 2]}}}',
        '{"cameras": {"a": {"K": 1}}}',
        "%YAML:1.0\n---\nc: !!opencv-matrix\n   rows: 1000000\n   cols: 1000000\n   dt: d\n   data: [ 1. ]\n",
        '{"cameras": [{"distCoef": 1}]}',
        '[{"name": 1, "size": 2, "matrix": 3, "rotation": 4, "translation": 5, "distortions": 6}]',
        '{"frames": [{"transform_matrix": [[1e400]]}]}',
        "\x00\xff",
    ],
)
def test_hostile_files_are_data_errors(tmp_path: Path, text: str) -> None:
    (tmp_path / "calib.json").write_text(text)
    with pytest.raises(DataError):
        calibration = read_calibration(tmp_path / "calib.json")
        for name in calibration.cameras:
            calibration.camera(name)


@pytest.mark.parametrize("lens", ["opencv", "fisheye"])
def test_undistorting_points_is_what_the_maps_do_to_images(lens: str) -> None:
    """A dot at a distorted pixel moves to the undistorted pixel in the undistorted image."""
    distortion = [-0.2, 0.05, 0.001, -0.002] if lens == "opencv" else [0.05, -0.01, 0.003, 0.0]
    K = [[300.0, 0, 159.5], [0, 300, 119.5], [0, 0, 1]]
    camera = make_camera(size=(320, 240), K=K, R=np.eye(3), t=[0, 0, 0], distortion=distortion, lens=lens)
    image = np.zeros((240, 320, 3), np.uint8)
    cv2.circle(image, (250, 60), 3, (255, 255, 255), -1)
    found = undistort(image, pinhole_maps(camera))[..., 0]
    y, x = (np.average(i, weights=found) + 0.5 for i in np.indices(found.shape))
    expected = undistort_points(np.array([[250.5, 60.5]]), camera.K[0], distortion, lens)[0]
    assert [x, y] == pytest.approx(expected, abs=0.1)
    assert np.linalg.norm(expected - [250.5, 60.5]) > 1
