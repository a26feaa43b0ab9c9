"""BEDLAM jobs with pictures instead of videos, and with every source of cameras."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from opendimo.pipelines.sources.renders import bedlam_cameras
from opendimo.storage_schemas.lake.lake import Lake
from opendimo.storage_schemas.media import video
from tests.pipelines.render_jobs import edit, ingest, message, only, writable, write_pictures

CSV = "ground_truth/meta_exr_csv"


@pytest.fixture
def first(data, tmp_path):
    """Return a v1 job of one static sequence, with "static" in its name."""
    return only(writable(data / "ue5" / "mini_bedlam1", tmp_path / "1_static"), "seq_000000")


@pytest.fixture
def second(data, tmp_path):
    """Return a v2 job of one sequence with a panning camera."""
    return only(writable(data / "ue5" / "mini_bedlam2", tmp_path / "2_pan"), "seq_000000")


def unpack(job, step=1, size=(320, 180)):
    """Convert the video of a job to pictures."""
    (path,) = (job / "mp4").glob("*.mp4")
    folder = job / "png" / path.stem
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for number, image in enumerate(video.frames(path)):
        if number % step == 0:
            picture = Image.fromarray(video.resize(image, size))
            picture.save(folder / f"{path.stem}_{number:04d}.png", compress_level=1)
    shutil.rmtree(job / "mp4")
    return folder


def test_pictures_are_read_like_the_video(first, tmp_path):
    before = ingest(first).rows["sources"][0]
    folder = unpack(first)
    row = ingest(first).rows["sources"][0]
    assert (row["container"], row["codec"], row["frames"]) == ("image2", "png", 60)
    assert (row["width"], row["height"], row["fps_num"], row["fps_den"]) == (320, 180, 30, 1)
    assert row["size"] == sum(path.stat().st_size for path in folder.iterdir())
    assert row["capture_id"] == before["capture_id"]
    assert row["K"][0, 0, 0] == pytest.approx(before["K"][0, 0, 0] / 4)
    assert np.array_equal(row["truth_joints"], before["truth_joints"])
    assert len(list(video.frames(row["local_path"]))) == 60
    lake = Lake(tmp_path / "lake")
    lake.append("run", {"sources": [row | {"work_key": "w"}]})
    assert lake.read("sources")[0]["local_path"] == row["local_path"]


def test_every_fifth_picture_is_six_frames_a_second_at_the_same_times(first):
    every = ingest(first).rows["sources"][0]
    unpack(first, step=5, size=(64, 36))
    row = ingest(first).rows["sources"][0]
    assert (row["frames"], row["fps_num"] / row["fps_den"]) == (12, 6)
    assert row["truth_joints"] == pytest.approx(every["truth_joints"][:, ::5])
    assert row["world_to_camera"] == pytest.approx(every["world_to_camera"][::5])


def test_a_camera_file_of_every_fifth_picture_only(first):
    every = ingest(first).rows["sources"][0]
    unpack(first, step=5, size=(64, 36))
    edit(first / "ground_truth/camera/seq_000000_camera.csv", lambda rows: rows.__setitem__(slice(1, None), rows[1::5]))
    row = ingest(first).rows["sources"][0]
    assert row["truth_joints"] == pytest.approx(every["truth_joints"][:, ::5])


@pytest.mark.parametrize(("gone", "expected"), [(7, "image 7 is missing"), (59, "pictures 0 to 58 by 1")])
def test_a_missing_picture_is_told(first, gone, expected):
    shutil.rmtree(first / "mp4")
    folder = first / "png/seq_000000"
    write_pictures(folder / "seq_000000_%04d.png", range(60))
    (folder / f"seq_000000_{gone:04d}.png").unlink()
    assert expected in message(first)


def test_pictures_without_rows_are_told(second):
    shutil.copytree(second / "png" / "seq_000000", second / "png" / "seq_000077")
    assert "be_seq.csv has no such sequence" in message(second)


def test_fewer_pictures_than_cameras_are_told(second):
    shutil.rmtree(second / "mp4")  # there are pictures of the first 10 frames only
    assert "pictures 0 to 9 by 1, cameras 0 to 59" in message(second)


def test_cropped_pictures_are_told(first):
    shutil.rmtree(first / "mp4")
    write_pictures(first / "png/seq_000000/seq_000000_%04d.png", range(60), (64, 64))
    assert "does not have the shape of the camera's sensor" in message(first)


def test_json_of_every_picture_replaces_the_csv(second):
    expected = ingest(second).rows["sources"][0]
    meta = second / "ground_truth/meta_exr/seq_000000"
    for file in meta.iterdir():
        file.unlink()
    table, _ = bedlam_cameras.read_csv(second / CSV / "seq_000000_camera.csv")
    for number, row in enumerate(table):
        facts = dict(zip(bedlam_cameras.META_KEYS, map(str, row), strict=True))
        (meta / f"seq_000000_{number:04d}_meta.json").write_text(json.dumps(facts))
    shutil.rmtree(second / CSV)
    row = ingest(second).rows["sources"][0]
    assert row["world_to_camera"] == pytest.approx(expected["world_to_camera"])
    assert row["K"] == pytest.approx(expected["K"])
    (meta / "seq_000000_0030_meta.json").write_text("{}")
    assert "no camera of a picture" in message(second)


def test_csv_and_json_of_different_renders_are_told(second):
    edit(second / CSV / "seq_000000_camera.csv", lambda rows: rows[1].__setitem__(4, "-11"))
    assert "seq_000000_0000_meta.json: yaw is not that of" in message(second)


@pytest.mark.parametrize("number", range(8))
def test_keyframes_replace_the_csv_where_they_say_it_all(data, number):
    """Compare with the renderer's cameras: pans, tilts, zooms, shake as a keyframe per frame."""
    name, job = f"seq_{number:06d}", data / "ue5" / "mini_bedlam2"
    told = {"kind": "csv", "path": str(job / CSV / f"{name}_camera.csv"), "meta": None}
    true = bedlam_cameras.read_cameras(told, turned=False)
    told = {"kind": "animation", "path": str(job / "be_camera_animations.json"), "sequence": name, "frames": 60}
    keyed = bedlam_cameras.read_cameras(told, turned=False)
    assert keyed.world_to_camera == pytest.approx(true.world_to_camera, abs=1e-5)
    assert np.allclose(keyed.K, true.K, atol=1e-5)


def test_keyframes_under_shake_are_not_believed(second):
    path = second / "be_camera_animations.json"
    animations = json.loads(path.read_text())
    animations["seq_000000"]["info"]["camera_shake"] = "perlin"
    path.write_text(json.dumps(animations))
    for folder in ("meta_exr_csv", "meta_exr"):
        shutil.rmtree(second / "ground_truth" / folder)
    assert "camera_shake leave the camera pose undetermined" in message(second)


def test_root_and_camera_of_a_keyframe_are_chained(tmp_path):
    """The root is turned to +Y, raised and pitched; the camera is behind it and has the same view direction."""
    place = {"x": 100, "y": 200, "z": 50, "yaw": 90, "pitch": -30}
    key = {"hfov": 60, "cameraroot": place, "camera_local": {"x": -400, "y": 0, "z": 0}, "type": "linear"}
    keys = [{**key, "frame_index": index} for index in (-1, 3)]
    path = tmp_path / "be_camera_animations.json"
    path.write_text(json.dumps({"seq_000000": {"keyframes": keys}}))
    told = {"kind": "animation", "path": str(path), "sequence": "seq_000000", "frames": 3}
    cameras = bedlam_cameras.read_cameras(told, turned=False)
    seen = (
        cameras.world_to_camera[:, :, :3] @ [2.0, -0.5, 1.0] + cameras.world_to_camera[:, :, 3]
    )  # position of the root in our world
    assert seen == pytest.approx(np.tile([0, 0, 4.0], (3, 1)), abs=1e-9)
    centre = -cameras.world_to_camera[0, :, :3].T @ cameras.world_to_camera[0, :, 3]
    assert centre == pytest.approx([2 - 4 * np.cos(np.pi / 6), -0.5 - 4 * np.sin(np.pi / 6), 1.0])


def test_static_job_without_camera_files_is_seen_by_the_camera_of_its_scene(first):
    expected = ingest(first).rows["sources"][0]
    shutil.rmtree(first / "ground_truth")
    row = ingest(first).rows["sources"][0]
    assert len(row["world_to_camera"]) == 1
    assert row["world_to_camera"] == pytest.approx(expected["world_to_camera"][:1], abs=1e-4)
    assert row["K"] == pytest.approx(expected["K"][:1], rel=1e-4)


def test_other_jobs_need_their_cameras(first):
    shutil.rmtree(first / "ground_truth")
    job = first.rename(first.with_name("1_dolly"))
    assert "no camera file" in message(job)


def test_stated_frames_must_be_there(first):
    edit(first / "be_seq.csv", lambda rows: rows[1].__setitem__(9, rows[1][9].replace("frames=60", "frames=90")))
    assert "the scene definition 90" in message(first)


def test_masks_and_depth_are_left_as_references(second):
    for folder, ending in (("depth", "depth.exr"), ("masks", "env.png"), ("masks", "00_body.png")):
        (second / folder / "seq_000000").mkdir(parents=True, exist_ok=True)
        for number in range(2):
            (second / folder / "seq_000000" / f"seq_000000_{number:04d}_{ending}").write_bytes(b"never read")
    found = ingest(second).rows["sources"][0]["references"]
    where = {reference["kind"]: reference["path"].removeprefix(f"{second}/") for reference in found}
    assert where == {
        "depth": "depth/seq_000000/seq_000000_%04d_depth.exr",
        "masks_env": "masks/seq_000000/seq_000000_%04d_env.png",
        "masks_00_body": "masks/seq_000000/seq_000000_%04d_00_body.png",
        "camera_labels": "camera_labels.json",
        "be_camera_animations": "be_camera_animations.json",
    }


def test_portrait_pictures_are_turned_with_their_camera(first):
    """A point at (u, v) in the stored picture is at (H - v, u) in the upright one."""
    lying = ingest(first).rows["sources"][0]
    unpack(first)
    upright = ingest(first.rename(first.with_name("1_closeup_static"))).rows["sources"][0]
    assert (upright["width"], upright["height"], upright["rotation"]) == (180, 320, 90)
    joint = lying["truth_joints"][0, 30, 0]

    def pixel(row):
        seen = row["K"][30] @ (row["world_to_camera"][30, :, :3] @ joint + row["world_to_camera"][30, :, 3])
        return seen[:2] / seen[2]

    u, v = pixel(lying) / 4
    assert pixel(upright) == pytest.approx([180 - v, u], abs=1e-3)


def test_jobs_of_one_name_in_two_folders_are_told_apart(first, tmp_path):
    for place in ("a", "b"):
        shutil.copytree(first, tmp_path / "all" / place / "job")
    outcome = ingest(tmp_path / "all")
    assert [row["view"] for row in outcome.rows["sources"]] == ["a/job/seq_000000", "b/job/seq_000000"]
    assert outcome.rows["captures"][0]["views"] == ["a/job/seq_000000", "b/job/seq_000000"]
