"""Moving cameras: COLMAP and nerfstudio checked with the formulas of their documentation; frames without a pose."""

import json
import os
import struct
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from opendimo.pipelines.engine.stage import DataError, Outcome
from opendimo.pipelines.sources import SourcesConfig, SourcesStage, discover
from opendimo.pipelines.sources.calibration import make_camera
from opendimo.pipelines.sources.calibrations import colmap, read_calibration
from opendimo.pipelines.sources.moving import on_frames
from opendimo.storage_schemas.media.video import encode

FRAMES = 8
SIZE = (64, 48)
PARAMS = [60.0, 61.0, 31.0, 25.0, -0.1, 0.02, 0.003, -0.001]  # fx fy cx cy k1 k2 p1 p2
POINT = np.array([0.2, -0.3, 0.5])


def pose(frame: int) -> tuple[Rotation, np.ndarray]:
    """Return world to camera of a slow arc."""
    return Rotation.from_euler("yx", [4 * frame, 10], degrees=True), np.array([0.1 * frame, 0.2, 4.0])


def expected(frame: int) -> np.ndarray:
    """Project `POINT` by COLMAP's documentation of its model OPENCV (pixels counted from the corner of the image)."""
    R, t = pose(frame)
    x, y, z = R.as_matrix() @ POINT + t
    u, v = x / z, y / z
    fx, fy, cx, cy, k1, k2, p1, p2 = PARAMS
    u2, v2, uv = u * u, v * v, u * v
    r2 = u2 + v2
    radial = k1 * r2 + k2 * r2 * r2
    du = u * radial + 2 * p1 * uv + p2 * (r2 + 2 * u2)
    dv = v * radial + 2 * p2 * uv + p1 * (r2 + 2 * v2)
    return np.array([fx * (u + du) + cx, fy * (v + dv) + cy])


def write_colmap(folder: Path, frames: list[int], binary: bool, name: str = "frame_{:05d}.png", first: int = 1) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    images = []
    for i, frame in enumerate(frames):
        R, t = pose(frame)
        x, y, z, w = R.as_quat()
        images.append((i + 1, [w, x, y, z, *t], name.format(frame + first)))
    if binary:
        (folder / "cameras.bin").write_bytes(struct.pack("<QiiQQ8d", 1, 7, 4, *SIZE, *PARAMS))
        body = b"".join(
            struct.pack("<i7di", i, *values, 7) + image.encode() + b"\0" + struct.pack("<Qddq", 1, 1.0, 2.0, -1)
            for i, values, image in images
        )
        (folder / "images.bin").write_bytes(struct.pack("<Q", len(images)) + body)
        return
    (folder / "cameras.txt").write_text(f"# Camera list\n7 OPENCV {SIZE[0]} {SIZE[1]} {' '.join(map(str, PARAMS))}\n")
    lines = [f"{i} {' '.join(map(repr, map(float, v)))} 7 {image}\n" for i, v, image in images]
    (folder / "images.txt").write_text("# Image list\n" + "".join(f"{line}\n" for line in lines))


def write_transforms(path: Path, frames: list[int], **more: object) -> None:
    listed = []
    for frame in frames:
        R, t = pose(frame)
        to_world = np.eye(4)
        to_world[:3, :3] = R.as_matrix().T @ np.diag([1, -1, -1])  # OpenGL's axes
        to_world[:3, 3] = -R.as_matrix().T @ t
        listed.append({"file_path": f"images/frame_{frame + 1:05d}.png", "transform_matrix": to_world.tolist()})
    names = ("fl_x", "fl_y", "cx", "cy", "k1", "k2", "p1", "p2")
    lens = dict(zip(names, PARAMS, strict=True)) | {"w": SIZE[0], "h": SIZE[1], "camera_model": "OPENCV"}
    path.write_text(json.dumps({**lens, "frames": listed, **more}))


def video(path: Path, frames: int = FRAMES) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    images = (np.full((SIZE[1], SIZE[0], 3), 20 * k % 250, np.uint8) for k in range(frames))
    path.write_bytes(encode(images, Fraction(30)))


def ingest(folder: Path) -> Outcome:
    works = discover("multiview", folder, SourcesConfig())
    outcome = SourcesStage("lake", SourcesConfig()).run(works)
    outcome.check(works)
    return outcome


def seen(row: dict, frame: int) -> np.ndarray:
    camera, K = row["world_to_camera"][frame].astype(float), row["K"][frame].astype(float)
    rotation = cv2.Rodrigues(camera[:, :3])[0]
    return cv2.projectPoints(POINT[None], rotation, camera[:, 3], K, np.array(row["distortion"]))[0][0, 0]


@pytest.mark.parametrize("form", ["text", "binary", "nerfstudio"])
def test_a_moving_camera_has_a_pose_a_frame(tmp_path: Path, form: str) -> None:
    video(tmp_path / "walk.mp4")
    if form == "nerfstudio":
        write_transforms(tmp_path / "transforms.json", list(range(FRAMES)))
    else:
        write_colmap(tmp_path / "sparse" / "0", list(range(FRAMES)), form == "binary")
    outcome = ingest(tmp_path)
    assert not outcome.rejects
    (row,) = outcome.rows["sources"]
    assert row["K"].shape == (FRAMES, 3, 3) and row["world_to_camera"].shape == (FRAMES, 3, 4)
    for frame in range(FRAMES):
        assert seen(row, frame) == pytest.approx(expected(frame), abs=1e-3)
    assert row["metric"] is False and outcome.rows["captures"][0]["sync_method"] == "single"


def test_lengths_are_metres_only_if_the_file_says_so(tmp_path: Path) -> None:
    video(tmp_path / "walk.mp4")
    write_transforms(tmp_path / "transforms.json", list(range(FRAMES)), metric=True, gravity_down=[0, 1, 0])
    outcome = ingest(tmp_path)
    assert outcome.rows["sources"][0]["metric"] is True
    assert outcome.rows["captures"][0]["gravity_down"].tolist() == [0, 1, 0]


@pytest.mark.parametrize("first", [0, 1])
def test_short_gaps_are_filled_between_their_neighbours(tmp_path: Path, first: int) -> None:
    video(tmp_path / "walk.mp4")
    write_colmap(tmp_path, [0, 1, 4, 5, 7], binary=False, first=first)
    (row,) = ingest(tmp_path).rows["sources"]
    for frame in (1, 4, 7):
        assert seen(row, frame) == pytest.approx(expected(frame), abs=1e-3)
    assert seen(row, 2) == pytest.approx(expected(2), abs=0.02)  # the true rotation has constant speed too


@pytest.mark.parametrize(("frames", "named"), [([0, 1, 2, 3], "4-7"), ([2, 3, 4, 7], "0-1, 5-6")])
def test_frames_without_a_camera_at_an_end_are_named(tmp_path: Path, frames: list[int], named: str) -> None:
    video(tmp_path / "walk.mp4")
    write_colmap(tmp_path, frames, binary=False, first=1 if frames[0] == 0 else 0)
    (reject,) = ingest(tmp_path).rejects
    if frames[0] == 0:
        assert f"4 of 8 frames have no camera ({named})" in reject.message
    else:
        assert "frames have no camera" in reject.message
    assert reject.error_class == "data"


def test_long_gaps_and_images_beyond_the_video_are_refused() -> None:
    K = np.diag([50.0, 50, 1])
    still = np.stack([np.eye(3)] * 2)
    camera = make_camera(size=SIZE, K=K, R=still, t=np.zeros((2, 3)), numbers=(0, 12))
    with pytest.raises(DataError, match=r"11 of 13 frames have no camera \(1-11\)"):
        on_frames(camera, camera.K, 13)
    with pytest.raises(DataError, match="a camera for image 12, but the video has 9 frames"):
        on_frames(camera, camera.K, 9)


@pytest.mark.parametrize("form", ["nerfstudio", "colmap"])
def test_only_frames_that_are_not_interpolated_are_blamed(tmp_path: Path, form: str) -> None:
    """Every other frame has a pose: of 1, 3, 5, which lie between two, and 7, only the last lacks a camera."""
    video(tmp_path / "walk.mp4")
    if form == "nerfstudio":
        write_transforms(tmp_path / "transforms.json", [0, 2, 4, 6])
    else:
        write_colmap(tmp_path, [0, 2, 4, 6], binary=False)
    (reject,) = ingest(tmp_path).rejects
    assert "1 of 8 frames have no camera (7)" in reject.message


def test_frames_are_blamed_at_both_ends_and_in_long_gaps() -> None:
    posed = (2, 3, 5, 20, 22, 28)
    poses = np.stack([np.eye(3)] * 6), np.zeros((6, 3))
    camera = make_camera(size=SIZE, K=np.diag([50.0, 50, 1]), R=poses[0], t=poses[1], numbers=posed)
    with pytest.raises(DataError, match=r"18 of 31 frames have no camera \(0, 5-18, 28-30\)"):
        on_frames(camera, camera.K, 31)


@pytest.mark.parametrize(("step", "frames"), [(2, 21), (3, 22), (5, 21), (11, 23)])
def test_every_nth_frame_is_enough_up_to_the_limit(tmp_path: Path, step: int, frames: int) -> None:
    video(tmp_path / "walk.mp4", frames)
    write_transforms(tmp_path / "transforms.json", list(range(0, frames, step)))
    (row,) = ingest(tmp_path).rows["sources"]
    for frame in range(frames):
        tolerance = 1e-3 if frame % step == 0 else 0.02 * step**2  # the arc between poses is cut
        assert seen(row, frame) == pytest.approx(expected(frame), abs=tolerance)


def test_more_than_the_limit_between_frames_is_refused_by_name(tmp_path: Path) -> None:
    video(tmp_path / "walk.mp4", 25)
    write_transforms(tmp_path / "transforms.json", [0, 12, 24])
    (reject,) = ingest(tmp_path).rejects
    assert "22 of 25 frames have no camera (1-11, 13-23)" in reject.message
    assert "gaps of up to 10 frames are interpolated" in reject.message


def test_images_that_are_numbered_without_gaps_are_told_to_be_every_nth_frame(tmp_path: Path) -> None:
    """Tools that pick every n-th frame of a video number the pictures 1, 2, 3."""
    video(tmp_path / "walk.mp4", 30)
    write_transforms(tmp_path / "transforms.json", list(range(10)))
    (reject,) = ingest(tmp_path).rejects
    assert "20 of 30 frames have no camera (10-29)" in reject.message
    assert "numbered without gaps: if they are one in 3 frames, number them by their frames" in reject.message


@pytest.mark.parametrize("name", ["transforms.json", "transforms_train.json"])
def test_blender_states_only_an_angle_of_view(tmp_path: Path, name: str) -> None:
    """The focal length follows from half the angle over half the width, as in the loader of NeRF's synthetic scenes."""
    video(tmp_path / "walk.mp4")
    write_transforms(tmp_path / "full.json", list(range(FRAMES)))
    frames = json.loads((tmp_path / "full.json").read_text())["frames"]
    for k, frame in enumerate(frames):
        frame["file_path"] = f"./train/r_{k}"
    (tmp_path / name).write_text(json.dumps({"camera_angle_x": 0.6911, "frames": frames}))
    (row,) = ingest(tmp_path).rows["sources"]
    focal = SIZE[0] / 2 / np.tan(0.6911 / 2)
    expected_K = np.array([[focal, 0, SIZE[0] / 2], [0, focal, SIZE[1] / 2], [0, 0, 1]])
    assert row["K"].shape == (FRAMES, 3, 3) and row["K"][5] == pytest.approx(expected_K, rel=1e-5)
    R, t = pose(5)
    assert row["world_to_camera"][5] == pytest.approx(np.c_[R.as_matrix(), t], abs=1e-5)


def test_images_in_folders_are_cameras_of_that_name(tmp_path: Path) -> None:
    write_colmap(tmp_path, list(range(FRAMES)), binary=True, name="left/{:04d}.jpg")
    calibration = read_calibration(tmp_path)
    assert calibration.moving == ("left",)
    assert calibration.camera("left").numbers == tuple(range(1, FRAMES + 1))


def test_a_rig_of_one_image_a_view_stands(tmp_path: Path) -> None:
    for name in ("front", "side"):
        video(tmp_path / f"{name}.mp4")
    R, t = pose(3)
    x, y, z, w = R.as_quat()
    (tmp_path / "cameras.txt").write_text(f"7 SIMPLE_PINHOLE {SIZE[0]} {SIZE[1]} 60 32 24\n")
    values = " ".join(map(repr, map(float, [w, x, y, z, *t])))
    (tmp_path / "images.txt").write_text(f"1 {values} 7 front.png\n\n2 {values} 7 side.png\n1 2 -1\n")
    outcome = ingest(tmp_path)
    assert [row["view"] for row in outcome.rows["sources"]] == ["front", "side"]
    assert {row["K"].shape for row in outcome.rows["sources"]} == {(1, 3, 3)}


@pytest.mark.parametrize(
    ("model", "count", "message"),
    [("OPENCV_FISHEYE", 8, "its lens is a fisheye"), ("FOV", 5, "lens model FOV is not known"), ("ODD", 3, "no model")],
)
def test_a_lens_that_cannot_be_stored_is_refused_by_name(tmp_path: Path, model: str, count: int, message: str) -> None:
    video(tmp_path / "walk.mp4")
    write_colmap(tmp_path, list(range(FRAMES)), binary=False)
    (tmp_path / "cameras.txt").write_text(f"7 {model} {SIZE[0]} {SIZE[1]} {'1 ' * count}\n")
    (reject,) = ingest(tmp_path).rejects
    assert message in reject.message


def test_a_model_of_any_size_is_not_read(tmp_path: Path) -> None:
    write_colmap(tmp_path, [0], binary=True)
    os.truncate(tmp_path / "images.bin", colmap.MAX_BYTES + 1)
    with pytest.raises(DataError, match=r"images\.bin: \d+ bytes, more than"):
        read_calibration(tmp_path)


def test_a_model_is_read_once_for_all_views_and_again_where_it_changed(tmp_path: Path) -> None:
    write_colmap(tmp_path, [0, 1], binary=True)
    first = read_calibration(tmp_path)
    assert read_calibration(tmp_path) is first
    write_colmap(tmp_path, [0, 1, 2], binary=True)
    assert read_calibration(tmp_path) is not first


def test_a_model_that_breaks_off_is_a_data_error(tmp_path: Path) -> None:
    write_colmap(tmp_path, list(range(FRAMES)), binary=True)
    whole = (tmp_path / "images.bin").read_bytes()
    for length in (4, 60, len(whole) - 3):
        (tmp_path / "images.bin").write_bytes(whole[:length])
        with pytest.raises(DataError, match="COLMAP"):
            read_calibration(tmp_path)
