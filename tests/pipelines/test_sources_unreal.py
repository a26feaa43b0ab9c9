"""BEDLAM jobs: adapter output checked against the data sets' labels, and jobs with missing parts."""

import shutil

import numpy as np
import pytest

from opendimo.pipelines.sources import SourcesConfig, SourcesStage, discover
from opendimo.storage_schemas.conventions import project, transform
from opendimo.storage_schemas.ids import stable_id
from opendimo.storage_schemas.lake.lake import Lake
from tests.pipelines.render_jobs import edit, ingest, writable


@pytest.fixture
def job(data, tmp_path):
    """Return a writable copy of the v1 job."""
    return writable(data / "ue5" / "mini_bedlam1", tmp_path / "job")


@pytest.mark.parametrize("name", ["mini_bedlam1", "mini_bedlam2"])
def test_stored_cameras_and_joints_reproduce_the_labels(data, name):
    """Compare every label row, by image name and subject, as label rows are not frame indices."""
    outcome = ingest(data / "ue5" / name)
    assert not outcome.rejects
    seen = {}
    for row in outcome.rows["sources"]:
        points = np.stack([project(transform(body, row["world_to_camera"]), row["K"]) for body in row["truth_joints"]])
        seen[row["name"].split("/")[1]] = dict(zip(row["subject"].split("+"), points, strict=True))
    with np.load(data / "ue5" / name / "processed_labels" / f"{name}.npz", allow_pickle=False) as labels:
        errors = []
        for image, subject, keypoints in zip(labels["imgname"], labels["sub"], labels["gtkps"], strict=True):
            sequence, _, file = str(image).partition("/")
            frame = int(file[-8:-4])
            errors.append(np.linalg.norm(seen[sequence][str(subject)][frame] - keypoints[:, :2], axis=-1).max())
    assert len(errors) in (300, 480)
    assert max(errors) < 0.05


def test_principal_point_agrees_with_the_rendered_pixels(data):
    """Back-projected with the stored K, the edges of the ground's 50 cm tiles are at multiples of 50 cm."""
    from PIL import Image

    row = next(r for r in ingest(data / "ue5" / "mini_bedlam2").rows["sources"] if r["name"].endswith("seq_000000"))
    image = Image.open(data / "ue5/mini_bedlam2/png/seq_000000/seq_000000_0000.png").convert("L")
    strip = np.asarray(image, np.float64)[600:]
    v, u = np.nonzero(abs(np.diff(strip, axis=1)) > 12)
    rays = np.linalg.inv(row["K"][0]) @ np.stack([u + 1.0, v + 600.5, np.ones(len(u))])  # edges are between pixels
    R, t = row["world_to_camera"][0, :, :3], row["world_to_camera"][0, :, 3]
    centre, directions = -R.T @ t, R.T @ rays
    across = centre[0] - directions[0] * centre[1] / directions[1]  # where the ray meets the ground, y = 0
    phase = (across + 0.25) % 0.5 - 0.25
    near = phase[abs(phase) < 0.025]
    assert len(near) > 300
    assert abs(near.mean()) < 0.001  # an error of half a pixel would give 2.8 mm


def test_same_performance_in_two_jobs_is_one_capture(data, tmp_path):
    outcome = ingest(data / "ue5")
    shared = {row["take"]: row for row in outcome.rows["captures"] if len(row["views"]) > 1}
    assert {take: row["views"] for take, row in shared.items()} == {
        "synth_a_0001@20": ["mini_bedlam1/seq_000000", "mini_bedlam2/seq_000002"],
        "synth_a_0001@60": ["mini_bedlam1/seq_000002", "mini_bedlam2/seq_000007"],
    }
    capture = shared["synth_a_0001@20"]
    views = [row for row in outcome.rows["sources"] if row["capture_id"] == capture["capture_id"]]
    assert np.allclose(views[0]["truth_joints"], views[1]["truth_joints"])
    assert capture["subject"] == "synth_a" and capture["gravity_down"].tolist() == [0, 1, 0]


def test_views_in_different_batches_write_the_same_capture(data):
    works = discover("unreal", data / "ue5", SourcesConfig())
    rows = [r for w in works for r in SourcesStage("lake", SourcesConfig()).run([w]).rows["captures"]]
    by_id = {}
    for row in rows:
        fixed = {**row, "gravity_down": row["gravity_down"].tolist()}
        assert by_id.setdefault(row["capture_id"], fixed) == fixed
    assert len(rows) == 12 and len(by_id) == 10


def test_rows_fit_the_lake_and_read_back(data, tmp_path):
    lake = Lake(tmp_path / "lake")
    outcome = ingest(data / "ue5" / "mini_bedlam1")
    lake.append("run", outcome.rows)
    row = lake.read("sources", where="name = 'mini_bedlam1/seq_000003'")[0]
    assert row["truth_joints"].shape == (2, 60, 22, 3)
    assert row["subject"] == "synth_a+synth_c"
    assert row["truth_hand_pose"].shape == (2, 60, 2, 15, 3)


def test_source_id_follows_the_content(data):
    row = ingest(data / "ue5" / "mini_bedlam1").rows["sources"][0]
    parts = ("unreal", row["content_sha256"], row["capture_id"], row["view"], row["name"])
    assert row["source_id"] == stable_id("source", *parts)


def test_missing_parts_reject_their_sequence_and_nothing_else(job):
    (job / "mp4" / "seq_000000.mp4").unlink()
    (job / "ground_truth" / "camera" / "seq_000001_camera.csv").unlink()
    (job / "motions_npz" / "synth_c_0001.npz").unlink()  # of seq_000003
    shutil.copyfile(job / "mp4" / "seq_000002.mp4", job / "mp4" / "seq_000009.mp4")
    outcome = ingest(job)
    assert [row["name"] for row in outcome.rows["sources"]] == ["job/seq_000002"]
    messages = {reject.name: reject.message for reject in outcome.rejects}
    assert "no video" in messages["job/seq_000000"]
    assert "no camera file" in messages["job/seq_000001"]
    assert "no motion" in messages["job/seq_000003"]
    assert "be_seq.csv has no such sequence" in messages["job/seq_000009"]
    assert {reject.error_class for reject in outcome.rejects} == {"data"}


def test_missing_scene_definition_rejects_the_job(job):
    (job / "be_seq.csv").unlink()
    (reject,) = ingest(job).rejects
    assert "be_seq.csv" in reject.message and reject.error_class == "data"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: rows[3].__setitem__(2, "../../secret_0001"), "is no file name"),
        (lambda rows: rows[3].__setitem__(3, "far"), "could not convert"),
        (lambda rows: rows[3].__setitem__(9, "start_frame=100"), "has 147 frames, but frames [100, 160) are needed"),
        (lambda rows: rows.pop(3), "has no Body row"),
    ],
)
def test_bad_scene_rows_reject_their_sequence(job, change, message):
    edit(job / "be_seq.csv", change)
    outcome = ingest(job)
    (reject,) = outcome.rejects
    assert message in reject.message and len(outcome.done) == 3


def test_frames_and_camera_rows_must_agree(job):
    edit(job / "ground_truth" / "camera" / "seq_000000_camera.csv", lambda rows: rows.pop())
    (reject,) = ingest(job).rejects
    assert "the pictures 60, the cameras 59" in reject.message


def test_motions_that_would_be_unpickled_are_refused(job):
    np.savez(job / "motions_npz" / "synth_b_0001.npz", poses=np.array([{}], dtype=object))
    (reject,) = ingest(job).rejects
    assert "synth_b_0001.npz" in reject.message and reject.error_class == "data"


def test_without_motions_cameras_alone_are_ingested(job):
    shutil.rmtree(job / "motions_npz")
    outcome = ingest(job)
    assert len(outcome.done) == 4 and "truth_joints" not in outcome.rows["sources"][0]


def test_motions_folder_may_be_elsewhere_in_the_layout_of_bedlam(job, tmp_path):
    for file in (job / "motions_npz").glob("*.npz"):
        subject, _, animation = file.stem.rpartition("_")
        folder = tmp_path / "motions" / subject / animation
        folder.mkdir(parents=True)
        file.rename(folder / "motion_seq.npz")
    outcome = ingest(job, SourcesConfig(motions=str(tmp_path / "motions")))
    assert len(outcome.done) == 4 and "truth_joints" in outcome.rows["sources"][0]


def test_portrait_job_is_turned_upright(job):
    upright = ingest(job.rename(job.with_name("20240101_closeup"))).rows["sources"][0]
    assert (upright["width"], upright["height"], upright["rotation"]) == (720, 1280, 90)
    assert upright["K"][0, :2, 2].tolist() == [360, 640]


def test_second_listing_is_the_same_work_and_a_touched_file_is_not(job):
    keys = [work.key for work in discover("unreal", job, SourcesConfig())]
    assert [work.key for work in discover("unreal", job, SourcesConfig())] == keys
    edit(job / "ground_truth" / "camera" / "seq_000000_camera.csv", lambda rows: rows[1].__setitem__(1, "7"))
    changed = {work.key for work in discover("unreal", job, SourcesConfig())}
    assert len(changed - set(keys)) == 1
