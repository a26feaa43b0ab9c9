"""Tests of the studio's output, read by the real source adapters."""

import json

import numpy as np
import pytest

from opendimo.pipelines.sources import SourcesConfig, SourcesStage, discover
from opendimo.pipelines.studio import make_studio
from opendimo.pipelines.studio.script import LEAD_IN, programme
from opendimo.storage_schemas.conventions import project, transform
from opendimo.storage_schemas.ids import sha256_file
from opendimo.storage_schemas.media.video import decode, probe
from opendimo.storage_schemas.tables import CAMERA_TERMS

SMALL = {"frames": 5, "size": (128, 72)}


@pytest.fixture(scope="module")
def studio(tmp_path_factory):
    """Render a studio where an earlier run left an unfinished one."""
    root = tmp_path_factory.mktemp("set") / "studio"
    left = root.with_name(".studio.unfinished") / "internet"
    left.mkdir(parents=True)
    (left / "half.mp4").write_bytes(b"half")
    return make_studio(root, **SMALL)


def sources(kind, folder, lake):
    works = discover(kind, str(folder), SourcesConfig())
    outcome = SourcesStage(str(lake), SourcesConfig()).run(works)
    assert [reject.name for reject in outcome.rejects] == (["broken.mp4"] if kind == "internet" else [])
    return outcome.rows["sources"], outcome.rows["captures"]


def test_unreal_rows_carry_the_truth(studio, tmp_path):
    rows, captures = sources("unreal", studio.unreal, tmp_path)
    assert len(rows) == 9 and len({row["capture_id"] for row in rows}) == 3
    assert sorted(len(capture["views"]) for capture in {c["capture_id"]: c for c in captures}.values()) == [3, 3, 3]
    truths = [np.load(path) for path in sorted((studio.truth / "unreal").iterdir())]
    views = {str(name): (truth, i) for truth in truths for i, name in enumerate(truth["views"])}
    for row in rows:
        truth, i = views[row["view"].rpartition("/")[2]]
        joints = row["truth_joints"][0].astype(np.float64)
        pixels = project(transform(joints, np.float64(row["world_to_camera"])), np.float64(row["K"]))
        exact = project(transform(truth["joints"][0], truth["world_to_camera"][i]), truth["K"][i])
        np.testing.assert_allclose(pixels, exact, atol=0.01)
        np.testing.assert_allclose(joints, truth["joints"][0], atol=1e-4)
        assert row["truth_hand_pose"].shape == (1, 5, 2, 15, 3) and row["truth_betas"].shape == (1, 16)


def test_multiview_rows_fit_the_truth(studio, tmp_path):
    rows, captures = sources("multiview", studio.multiview, tmp_path)
    assert len(rows) == 4 and len({row["capture_id"] for row in rows}) == 1
    np.testing.assert_allclose(captures[0]["gravity_down"], [0, 0, -1])
    truth = np.load(studio.truth / "multiview" / "count.npz")
    x, y, z = np.moveaxis(truth["joints"][0, 2], -1, 0)
    z_up = np.stack([x, z, -y], -1)[None]
    assert z_up[0, :, 2].max() > 1.4  # the head is up
    for row in rows:
        i = truth["views"].tolist().index(row["view"])
        pixels = project(transform(z_up, np.float64(row["world_to_camera"])), np.float64(row["K"]))
        exact = project(transform(truth["joints"][0, 2:3], truth["world_to_camera"][i, 2:3]), truth["K"][i, 2:3])
        np.testing.assert_allclose(pixels, exact, atol=0.01)


def test_internet_videos_hold_one_two_and_no_people(studio, tmp_path):
    rows, _ = sources("internet", studio.internet, tmp_path)
    people = {path.stem: len(np.load(path)["joints"]) for path in (studio.truth / "internet").iterdir()}
    assert people == {"side_steps": 1, "punches": 1, "two_people": 2, "nobody": 0}
    assert len(rows) == 4 and all(row.get("truth_joints") is None for row in rows)


def test_videos_are_complete_and_not_empty(studio):
    videos = sorted(path for path in studio.internet.parent.rglob("*.mp4") if path.name != "broken.mp4")
    assert len(videos) == 17
    for path in videos:
        info, pictures = probe(path), decode(path)
        assert (info.width, info.height, info.fps) == (128, 72, 30)
        assert pictures.shape == (5, 72, 128, 3) and pictures.std() > 20


def test_labels_are_of_the_closed_vocabulary(studio):
    labels = json.loads(next(studio.unreal.rglob("camera_labels.json")).read_text())
    terms = {term for label in labels.values() for term in label["camera_motion"]}
    assert terms == {"static", "dolly_in", "dolly_out", "pan_left"} <= set(CAMERA_TERMS)
    assert all(label["frames"] == 5 for label in labels.values())


def test_motion_files_have_the_layout_of_the_mini_sets(studio, data):
    ours = np.load(next(studio.unreal.rglob("ada_wave.npz")))
    theirs = np.load(data / "ue5/mini_bedlam2/motions_npz/synth_a_0001.npz")
    assert set(theirs.files) == set(ours.files)
    assert ours["poses"].shape == (5 + LEAD_IN, 165) and ours["betas"].shape == theirs["betas"].shape
    np.testing.assert_array_equal(ours["parents"][:22], theirs["parents"])
    np.testing.assert_array_equal(ours["joint_names"][:22], theirs["joint_names"])


@pytest.mark.slow
def test_a_finished_studio_is_left_alone_and_another_folder_is_the_same(studio, tmp_path):
    root = studio.internet.parent
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    assert make_studio(root, **SMALL) == studio
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == before
    again = make_studio(tmp_path / "again", **SMALL).internet.parent
    files = [path for path in root.rglob("*.*") if path.is_file()]
    assert len(files) == len([path for path in again.rglob("*.*") if path.is_file()]) == 42
    for path in files:
        assert sha256_file(path) == sha256_file(again / path.relative_to(root)), path
    assert not [path for path in tmp_path.iterdir() if "unfinished" in path.name]


def test_unfinished_work_is_redone(studio):
    root = studio.internet.parent
    assert not (studio.internet / "half.mp4").exists()
    assert not list(root.parent.glob("*unfinished*"))


def test_other_peoples_folders_are_refused(tmp_path, studio):
    (tmp_path / "holiday.mp4").write_bytes(b"precious")
    with pytest.raises(ValueError, match="does not hold the studio"):
        make_studio(tmp_path, **SMALL)
    with pytest.raises(ValueError, match="does not hold the studio"):
        make_studio(studio.internet.parent, seed=1, **SMALL)
    assert (tmp_path / "holiday.mp4").read_bytes() == b"precious"


def test_seeds_differ():
    first, second = (programme(seed, 4) for seed in (0, 1))
    assert [take.name for take in first] == [take.name for take in second]
    for a, b in zip(first, second, strict=True):
        assert a.scene != b.scene
        assert all((p.motion.rotations != q.motion.rotations).any() for p, q in zip(a.people, b.people, strict=True))


def test_the_person_fills_the_frame_and_stays_in_it():
    for take in programme(0, 60):
        for camera in take.views:
            for person in take.people:
                shown = transform(person.joints()[LEAD_IN:], camera.world_to_camera)
                x, y = np.moveaxis(project(shown, camera.K((640, 360))), -1, 0)
                assert x.min() > 0 and x.max() < 639, take.name
                assert np.median(y.max(1) - y.min(1)) > 0.42 * 360, take.name
