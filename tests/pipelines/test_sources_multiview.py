"""Calibrated rigs: cameras checked against measured points, and calibrations that do not match their videos."""

import csv
import json
import shutil
from fractions import Fraction

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from opendimo.pipelines.engine.stage import DataError
from opendimo.pipelines.sources import SourcesConfig, SourcesStage, discover
from opendimo.pipelines.sources.calibration import Camera, fit
from opendimo.pipelines.sources.calibrations import read_calibration
from opendimo.pipelines.sources.multiview import camera_of
from opendimo.storage_schemas.conventions import HALF_PIXEL, project
from opendimo.storage_schemas.media.video import encode


def ingest(path, config=None):
    config = config or SourcesConfig()
    works = discover("multiview", path, config)
    outcome = SourcesStage("lake", config).run(works)
    outcome.check(works)
    return outcome


def video(path, size=(64, 48), shade=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    frames = np.full((4, size[1], size[0], 3), 120 + shade, np.uint8)
    path.write_bytes(encode(iter(frames), Fraction(30)))


def entry(size=(64, 48), **changes):
    K = [[60.0, 0, 31.5], [0, 60.0, 23.5], [0, 0, 1]]
    return {"size": size, "K": K, "dist": [0, 0, 0, 0], "R": np.eye(3).tolist(), "t": [0, 0, 3]} | changes


@pytest.fixture
def take(tmp_path):
    """Return a take of two cameras: videos a.mp4 and b.mp4 with their calibration."""
    folder = tmp_path / "take"
    video(folder / "a.mp4")
    video(folder / "b.mp4", shade=20)
    write(folder, {"a": entry(), "b": entry()})
    return folder


def write(folder, cameras, **more):
    (folder / "calib.json").write_text(json.dumps({"cameras": cameras, **more}))


def test_stored_cameras_reproject_measured_corners(data):
    """Check with the corners of a board, detected and triangulated by the tool that calibrated the rig."""
    folder = data / "multiview" / "desk_board_4cam"
    outcome = ingest(folder)
    assert len(outcome.done) == 4 and not outcome.rejects
    with (folder / "board_corners_3d.csv").open() as stream:
        world = {
            (r["sync_index"], r["keypoint_id"]): [float(r[f"{axis}_coord"]) for axis in "xyz"]
            for r in csv.DictReader(stream)
        }
    with (folder / "board_corners_2d.csv").open() as stream:
        seen = [r for r in csv.DictReader(stream) if (r["sync_index"], r["keypoint_id"]) in world]
    for row in outcome.rows["sources"]:
        mine = [r for r in seen if r["cam_id"] == row["view"]]
        points = np.array([world[r["sync_index"], r["keypoint_id"]] for r in mine])
        pixels = (
            np.array([[float(r["img_loc_x"]), float(r["img_loc_y"])] for r in mine]) + 0.5
        )  # OpenCV's pixel convention
        pose, K = row["world_to_camera"][0].astype(float), row["K"][0].astype(float)
        rotation = cv2.Rodrigues(pose[:, :3])[0]
        found = cv2.projectPoints(points, rotation, pose[:, 3], K, np.array(row["distortion"]))[0][:, 0]
        assert len(mine) > 100
        assert np.median(np.linalg.norm(found - pixels, axis=1)) < 1.6  # the data set reports 0.7 to 1.4


def test_views_of_a_folder_are_one_capture_and_static_cameras_one_frame(data):
    outcome = ingest(data / "multiview" / "desk_board_4cam")
    (capture,) = outcome.rows["captures"]
    assert capture["views"] == ["0", "1", "2", "3"] and capture["sync_method"] == "synchronised"
    assert {row["capture_id"] for row in outcome.rows["sources"]} == {capture["capture_id"]}
    assert {row["K"].shape for row in outcome.rows["sources"]} == {(1, 3, 3)}
    assert capture["gravity_down"] is None


def test_letterboxed_video_gets_the_camera_of_its_picture(data):
    """cam01 was calibrated at 1088x1920, scaled to 1080 wide and padded with 7 black lines above and below."""
    outcome = ingest(data / "multiview" / "balance_1person_4cam", SourcesConfig(gravity_down=(0, 0, -1)))
    rows = {row["view"]: row for row in outcome.rows["sources"]}
    calibration = json.loads((data / "multiview/balance_1person_4cam/calib_opencv.json").read_text())["cameras"]
    scale = 1080 / 1088
    for name in ("cam01", "cam02"):
        (fx, _, cx), (_, fy, cy), _ = calibration[name]["K"]
        K = rows[name]["K"][0]
        assert [K[0, 0], K[1, 1]] == pytest.approx([fx * scale, fy * scale])
        assert K[0, 2] == pytest.approx((cx + 0.5) * scale)
        assert K[1, 2] == pytest.approx((cy + 0.5) * scale + (1920 - 1920 * scale) / 2)
    for name in ("cam03", "cam04"):
        assert rows[name]["K"][0] == pytest.approx(np.array(calibration[name]["K"]) + HALF_PIXEL)
    assert outcome.rows["captures"][0]["gravity_down"].tolist() == [0, 0, -1]


def test_cropped_video_is_refused(tmp_path, take):
    video(take / "a.mp4", size=(60, 48))
    (reject,) = ingest(take).rejects
    assert "calibration is for 64x48, the video is 60x48 without bars" in reject.message


@given(st.floats(0.3, 2.0), st.floats(-1, 1), st.floats(-1, 1))
def test_same_shape_scales_the_projection(scale, x, y):
    size = (round(400 * scale) * 4, round(400 * scale) * 3)
    K = np.array([[900.0, 0, 801], [0, 880, 590], [0, 0, 1]])
    camera = Camera((1600, 1200), K[None], [], np.eye(3, 4)[None])
    point = np.array([[x, y, 2.0]])
    before = project(point, K[None])[0]
    after = project(point, fit(camera, size, lambda: np.zeros((size[1], size[0], 3), np.uint8)))[0]
    assert after == pytest.approx(before * size[0] / 1600)


@pytest.mark.parametrize(("width", "height"), [(640, 360), (960, 540), (1920, 1080), (2560, 1440)])
def test_intrinsics_of_another_size_than_stated_are_refused(tmp_path, width, height):
    """The board rig is calibrated at 1280x720; its principal points are within 33 pixels of the middle."""
    cameras = {"a": entry((width, height), K=[[903.6, 0, 618.3], [0, 907.9, 394.2], [0, 0, 1]])}
    video(tmp_path / "a.mp4", size=(width // 10, height // 10))
    write(tmp_path, cameras)
    (reject,) = ingest(tmp_path).rejects
    assert f"is far from the middle of {width}x{height} pixels" in reject.message
    assert "calib.json, camera a" in reject.message


def test_real_calibrations_have_plausible_principal_points(data):
    """521 cameras of CMU Panoptic among them, of three kinds and sizes."""
    for file in ("balance_1person_4cam/Calib.qca.txt", "panoptic_format_sample/calibration_160906_band1.json"):
        calibration = read_calibration(data / "multiview" / file)
        for name in calibration.cameras:
            camera = calibration.camera(name)
            fit(camera, camera.size, lambda: None)


def test_millimetres_are_refused_with_the_factor_or_taken_as_such(data):
    """The cameras of the example stand 1.4 m apart."""
    folder = data / "wild/rigs/millimetres"
    outcome = ingest(folder)
    assert len(outcome.rejects) == 4 and not outcome.done
    for reject in outcome.rejects:
        assert "spread over 1" in reject.message and "in mm (factor 0.001)" in reject.message
        assert "give --unit mm" in reject.message and "calibration.toml" in reject.message
    metres = ingest(data / "multiview/desk_board_4cam").rows["sources"]
    taken = ingest(folder, SourcesConfig(unit="mm")).rows["sources"]
    for row, true in zip(taken, metres, strict=True):
        assert row["metric"] and row["world_to_camera"] == pytest.approx(true["world_to_camera"], abs=1e-3)


@pytest.mark.parametrize(("unit", "length"), [("mm", 0.001), ("cm", 0.01), ("in", 0.0254), ("ft", 0.3048), ("m", 1.0)])
def test_lengths_are_read_in_the_given_unit(take, unit, length):
    write(take, {"a": entry(), "b": entry(t=[1, 2, 3])}, metric=False)
    row = ingest(take, SourcesConfig(unit=unit)).rows["sources"][1]
    assert row["metric"] and row["world_to_camera"][0, :, 3] == pytest.approx(np.array([1, 2, 3]) * length)


def test_an_unknown_unit_is_an_error_and_no_unit_is_the_same_work(take):
    with pytest.raises(DataError, match="unit 'feet': use one of m, cm, mm, in, ft"):
        discover("multiview", take, SourcesConfig(unit="feet"))
    plain, metres = ({w.key for w in discover("multiview", take, SourcesConfig(unit=u))} for u in (None, "m"))
    assert not plain & metres


def test_cameras_that_are_not_metric_may_stand_anywhere(take):
    write(take, {"a": entry(), "b": entry(t=[5000, 0, 3])})
    assert len(ingest(take).rejects) == 2
    write(take, {"a": entry(), "b": entry(t=[5000, 0, 3])}, metric=False)
    assert not ingest(take).rejects


def test_missing_calibration_rejects_every_view_of_the_take_only(take):
    video(take.parent / "other" / "a.mp4")
    outcome = ingest(take.parent)
    assert sorted(row["name"] for row in outcome.rows["sources"]) == ["take/a", "take/b"]
    (reject,) = outcome.rejects
    assert reject.name == "other/a" and "no calibration" in reject.message and reject.error_class == "data"


def test_unknown_camera_and_camera_without_video_are_rejects(take):
    write(take, {"a": entry(), "c": entry()})
    outcome = ingest(take)
    (reject,) = outcome.rejects  # one for the view, although it is both
    assert [row["view"] for row in outcome.rows["sources"]] == ["a"]
    assert reject.name == "take/b" and "unknown camera name 'b'" in reject.message
    assert "without a video: c" in reject.message and "--camera NAME=b.mp4" in reject.message
    assert outcome.rows["captures"][0]["views"] == ["a"]
    write(take, {"a": entry(), "b": entry(), "c": entry()})
    (reject,) = ingest(take).rejects
    assert reject.name == "take/c" and "no video of camera c" in reject.message


def test_a_camera_may_be_named_for_a_video(take):
    write(take, {"a": entry(), "c": entry()})
    outcome = ingest(take, SourcesConfig(cameras=("c=b.mp4",)))
    assert sorted(row["view"] for row in outcome.rows["sources"]) == ["a", "c"] and not outcome.rejects
    (reject,) = ingest(take, SourcesConfig(cameras=("d=b.mp4",))).rejects
    assert "unknown camera name 'd'" in reject.message
    with pytest.raises(DataError, match="write NAME=FILE"):
        discover("multiview", take, SourcesConfig(cameras=("b.mp4",)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"R": [[2, 0, 0], [0, 1, 0], [0, 0, 1]]}, "R is not a rotation"),
        ({"R": [[1, 0, 0], [0, 1, 0], [0, 0, -1]]}, "R is not a rotation"),
        ({"K": [[0, 0, 1], [0, 1, 1], [0, 0, 1]]}, "no intrinsic matrix"),
        ({"t": [0, 0]}, "t has shape (2,)"),
        ({"lens": "FOV"}, "lens model FOV is not known"),
        ({"dist": [0, 0]}, "0, 4, 5, 8, 12, 14 numbers, has 2"),
        ({"fisheye": True}, "its lens is a fisheye"),
        ({"size": None}, "size should be"),
    ],
)
def test_impossible_camera_rejects_its_view(take, change, message):
    write(take, {"a": entry(**change), "b": entry()})
    outcome = ingest(take)
    (reject,) = outcome.rejects
    assert reject.name == "take/a" and message in reject.message and reject.error_class == "data"
    assert len(outcome.done) == 1


@pytest.mark.parametrize("text", ["", "{", "[]", '{"cameras": {}}', '{"cameras": [1]}'])
def test_unreadable_calibration_rejects_the_take(take, text):
    (take / "calib.json").write_text(text)
    outcome = ingest(take)
    assert len(outcome.rejects) == 2 and {r.error_class for r in outcome.rejects} == {"data"}


def test_gravity_of_the_file_is_checked(take):
    write(take, {"a": entry(), "b": entry()}, gravity_down=[0, 0, -1])
    assert ingest(take).rows["captures"][0]["gravity_down"].tolist() == [0, 0, -1]
    write(take, {"a": entry(), "b": entry()}, gravity_down=[0, 0, -9.81])
    assert "gravity_down" in ingest(take).rejects[0].message


def test_two_calibrations_that_differ_are_not_guessed_between(take):
    shutil.copyfile(take / "calib.json", take / "calib_old.json")
    assert len(ingest(take).done) == 2
    (take / "calib_old.json").write_text(json.dumps({"cameras": {"a": entry(t=[0, 0, 4]), "b": entry()}}))
    assert "several calibrations" in ingest(take).rejects[0].message
    assert len(ingest(take, SourcesConfig(calibration=str(take / "calib.json"))).done) == 2


def test_toml_of_pose2sim_with_rotation_vector(tmp_path):
    path = tmp_path / "Calib.toml"
    path.write_text(
        '[cam_01]\nname = "cam_01"\nsize = [64.0, 48.0]\nmatrix = [[60.0,0.0,31.5],[0.0,60.0,23.5],[0.0,0.0,1.0]]\n'
        "distortions = [0.0,0.0,0.0,0.0]\nrotation = [0.0,1.5707963267948966,0.0]\ntranslation = [1.0,2.0,3.0]\n"
        "fisheye = false\n[metadata]\nadjusted = false\ngravity_down = [0.0,0.0,-1.0]\n"
    )
    calibration = read_calibration(path)
    (pose,) = calibration.camera("cam_01").world_to_camera
    assert pose == pytest.approx(np.array([[0, 0, 1, 1], [0, 1, 0, 2], [-1, 0, 0, 3]]))
    assert calibration.gravity_down == [0, 0, -1]


def test_takes_with_equal_names_and_calibration_are_told_apart_by_content(tmp_path):
    for subject, shade in (("s1", 0), ("s2", 60)):
        video(tmp_path / subject / "take" / "a.mp4", shade=shade)
        write(tmp_path / subject / "take", {"a": entry()})
    first, second = (ingest(tmp_path / s / "take").rows["captures"][0] for s in ("s1", "s2"))
    assert first["take"] == second["take"] and first["capture_id"] != second["capture_id"]


def test_repaired_view_joins_its_capture(take):
    good = (take / "b.mp4").read_bytes()
    (take / "b.mp4").write_bytes(b"")
    before = ingest(take)
    (take / "b.mp4").write_bytes(good)
    after = ingest(take)
    assert "the file is empty" in before.rejects[0].message
    assert before.rows["captures"][0]["capture_id"] == after.rows["captures"][0]["capture_id"]
    assert before.done[0] in after.done and len(after.done) == 2


@pytest.mark.parametrize(
    ("stem", "camera"),
    [
        ("cam_0", "0"),
        ("cam_02", "2"),
        ("0", "0"),
        ("cam_10", None),
        ("front", "front"),
        ("cam", None),
        ("hd_00_16", "00_16"),
    ],
)
def test_names_of_files_and_cameras(stem, camera):
    assert camera_of(stem, ["0", "1", "2", "front", "00_16", "16"]) == camera


@pytest.mark.parametrize(
    ("stem", "cameras", "camera"),
    [
        ("cam01", ["int_cam01_img", "int_cam02_img"], "int_cam01_img"),  # Pose2Sim
        ("2019-08-02-vid01-camB", ["A", "B"], "B"),  # anipose
        ("Camera_001_synchronized", ["Camera_000", "Camera_001"], "Camera_001"),  # FreeMoCap
        ("port_2", ["cam_1", "cam_2"], "cam_2"),  # caliscope, new and old
        ("cam_2", ["port_1", "port_2"], "port_2"),
        ("CAM_2", ["1", "2"], "2"),  # EasyMocap
        ("hd_00_16", ["00_16", "00_06"], "00_16"),  # Panoptic
        ("vid1-camA", ["A", "camA"], "camA"),
        ("take2", ["left", "right"], None),
        ("cam_3", ["cam_1", "cam_2"], None),
    ],
)
def test_names_as_other_tools_write_them(stem, cameras, camera):
    assert camera_of(stem, cameras) == camera


@pytest.mark.parametrize("rig", ["pose2sim_names", "anipose_names"])
def test_the_examples_of_names_match(data, rig):
    outcome = ingest(data / "wild/rigs" / rig)
    assert len(outcome.done) == 4 and not outcome.rejects


def test_times_and_the_board_beside_the_videos_are_kept(data):
    rows = ingest(data / "multiview" / "desk_board_4cam").rows["sources"]
    with (data / "multiview" / "desk_board_4cam" / "timestamps.csv").open() as stream:
        times = [float(r["frame_time"]) for r in csv.DictReader(stream) if r["cam_id"] == "2"]
    assert np.array(rows[2]["timestamps"]) == pytest.approx(np.array(times) * 1e9, abs=1)
    assert [r["kind"] for r in rows[2]["references"]] == ["board"]


def test_times_of_another_number_of_frames_are_a_reject(take):
    (take / "timestamps.csv").write_text("camera,time\n" + "".join(f"{c},{t}\n" for t in range(5) for c in "ab"))
    assert "5 times of camera a, whose video has 4 frames" in ingest(take).rejects[0].message


def test_other_times_are_another_annotation(take):
    plain = ingest(take).rows["sources"][0]
    (take / "timestamps.csv").write_text("camera,time\n" + "".join(f"{c},{t}\n" for t in range(4) for c in "ab"))
    timed = ingest(take).rows["sources"][0]
    assert plain["timestamps"] is None and timed["timestamps"] == [0, 10**9, 2 * 10**9, 3 * 10**9]
    assert plain["annotation_sha256"] != timed["annotation_sha256"]


def test_folder_without_videos_is_an_error(tmp_path):
    with pytest.raises(DataError, match="no videos"):
        discover("multiview", tmp_path, SourcesConfig())
