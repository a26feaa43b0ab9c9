"""MultiCamVideo: ten cameras per scene, given as text rows."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from opendimo.pipelines.cameras.geometry import camera_motion
from opendimo.pipelines.sources.renders.multicamvideo import read_extrinsics
from tests.pipelines.camera_files import multicam_cameras
from tests.pipelines.render_jobs import ingest, message, write_json, write_video

FRAMES = 6
UNREADABLE = Path("/proc/self/mem")  # a regular file that even root cannot read
LOOKS = "[1 0 0 0] [-0 1 0 0] [0 -0 1 0]"


def scene(folder, cameras=("cam01", "cam02"), frames=FRAMES, size=(64, 64)):
    """Return a scene whose cameras are in a row and look along +X."""
    poses = {
        f"frame{f}": {camera: f"{LOOKS} [0 {100 * c} 150 1] " for c, camera in enumerate(cameras)}
        for f in range(frames)
    }
    write_json(folder / "cameras/camera_extrinsics.json", poses)
    for camera in cameras:
        write_video(folder / "videos" / f"{camera}.mp4", frames, size, fps=15)
    return folder


@pytest.fixture
def sample(data):
    return data / "camera_trajectories/multicamvideo_extrinsics_odd.json"


def test_cameras_of_the_sample_are_those_of_the_format_notes(sample):
    """The format notes define camera-to-world in Unreal's world; relative poses do not depend on the world."""
    for name, cameras in read_extrinsics(sample).items():
        expected = multicam_cameras(sample, name)
        assert len(cameras) == 81
        mine = np.einsum("tij,kj->tik", cameras[:, :, :3], cameras[0, :, :3])
        theirs = np.einsum("tij,kj->tik", expected[:, :, :3], expected[0, :, :3])
        assert mine == pytest.approx(theirs, abs=1e-4)


@pytest.mark.parametrize(
    ("camera", "term"), [("cam01", "pan_right"), ("cam03", "tilt_up"), ("cam05", "dolly_in"), ("cam09", "arc_left")]
)
def test_cameras_of_the_sample_move_as_its_readme_says(sample, camera, term):
    motion = camera_motion(read_extrinsics(sample)[camera], None, 15.0)
    assert term in {found.term for found in motion.terms}


def test_all_cameras_of_a_scene_are_views_of_one_capture(tmp_path):
    scene(tmp_path / "train/f24_aperture5/scene1")
    scene(tmp_path / "train/f50_aperture10/scene1", ("cam01",), size=(96, 96))
    outcome = ingest(tmp_path)
    assert not outcome.rejects
    rows = {row["name"]: row for row in outcome.rows["sources"]}
    one = ["train/f24_aperture5/scene1/cam01", "train/f24_aperture5/scene1/cam02"]
    assert sorted(rows) == [*one, "train/f50_aperture10/scene1/cam01"]
    captures = {row["capture_id"]: row for row in outcome.rows["captures"]}
    assert captures[rows[one[0]]["capture_id"]]["views"] == one
    assert captures[rows[one[0]]["capture_id"]]["sync_method"] == "rendered"
    assert len(captures) == 2
    assert rows[one[0]]["K"][0, 0].tolist() == pytest.approx([24 / 23.76 * 64, 0, 32])
    assert rows["train/f50_aperture10/scene1/cam01"]["K"][0, 0, 0] == pytest.approx(50 / 23.76 * 96)
    assert rows[one[0]]["fps_num"] == 15 and "truth_joints" not in rows[one[0]]


def test_camera_to_the_right_sees_what_is_ahead_on_its_left(tmp_path):
    scene(tmp_path / "f24_aperture5/scene1")
    rows = ingest(tmp_path).rows["sources"]
    ahead = np.array([0.0, -1.5, 5.0])  # 5 m along Unreal's X, at the cameras' height
    first, second = (row["world_to_camera"][0, :, :3] @ ahead + row["world_to_camera"][0, :, 3] for row in rows)
    assert first == pytest.approx([0, 0, 5]) and second == pytest.approx([-1, 0, 5])
    assert rows[0]["name"].endswith("cam01")


def test_missing_parts_reject_their_camera(tmp_path):
    folder = scene(tmp_path / "f24_aperture5/scene1", ("cam01", "cam02", "cam03"))
    (folder / "videos/cam02.mp4").unlink()
    shutil.copyfile(folder / "videos/cam01.mp4", folder / "videos/cam09.mp4")
    outcome = ingest(tmp_path)
    messages = {reject.name.split("/")[-1]: reject.message for reject in outcome.rejects}
    assert sorted(messages) == ["cam02", "cam09"] and len(outcome.done) == 2
    assert "no video of camera cam02" in messages["cam02"]
    assert "has no camera cam09, only cam01, cam02, cam03" in messages["cam09"]


@pytest.mark.skipif(not UNREADABLE.exists(), reason="needs a file that opens but cannot be read")
def test_a_scene_whose_first_video_cannot_be_read_costs_itself_only(tmp_path):
    folder = scene(tmp_path / "f24_aperture5/scene1")
    scene(tmp_path / "f24_aperture5/scene2")
    (folder / "videos/cam01.mp4").unlink()
    (folder / "videos/cam01.mp4").symlink_to(UNREADABLE)
    outcome = ingest(tmp_path)
    assert len(outcome.done) == 2 and ["cannot be read" in r.message for r in outcome.rejects] == [True, True]


def change(folder, edit):
    path = folder / "cameras/camera_extrinsics.json"
    frames = json.loads(path.read_text())
    edit(frames)
    path.write_text(json.dumps(frames))


@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        (lambda f: f.pop("frame3"), "frame3 is missing of 5 frames"),
        (lambda f: f.pop("frame5"), "the pictures 6, the cameras 5"),
        (lambda f: f["frame2"].pop("cam01"), "frame2 cam01: not four rows"),
        (lambda f: f["frame2"].update(cam01="[1 0 0 0]" * 40), "frame2 cam01: not four rows"),
        (lambda f: f["frame2"].update(cam01=f"{LOOKS} [0 0 nan 1]"), "not finite"),
        (lambda f: f["frame2"].update(cam01="[1 0 0 0] [0 1 0 0] [0 0 -1 0] [0 0 0 1]"), "forward, right, up"),
        (lambda f: f["frame2"].update(cam01="[2 0 0 0] [0 1 0 0] [0 0 1 0] [0 0 0 1]"), "frame2: rows should be"),
    ],
)
def test_bad_extrinsics_are_told(tmp_path, edit, expected):
    change(scene(tmp_path / "f24_aperture5/scene1", ("cam01",)), edit)
    assert expected in message(tmp_path)


def test_focal_length_comes_from_the_folder(tmp_path):
    scene(tmp_path / "scene1", ("cam01",))
    assert "no focal length" in message(tmp_path)


def test_pictures_have_to_be_square(tmp_path):
    scene(tmp_path / "f24_aperture5/scene1", ("cam01",), size=(64, 36))
    assert "shape of the camera's sensor" in message(tmp_path)
