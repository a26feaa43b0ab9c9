"""Plausibility checks of rendered ground truth: implausible renders are rejected with a message that says why."""

import shutil
from fractions import Fraction

import numpy as np
import pytest

from opendimo.storage_schemas.media.video import encode, frames
from tests.pipelines.render_jobs import edit, ingest, message, only, writable

LABELS = (("mini_bedlam1", 300), ("mini_bedlam2", 480))


@pytest.fixture
def job(data, tmp_path):
    """Return a v1 job of one sequence."""
    return only(writable(data / "ue5" / "mini_bedlam1", tmp_path / "job"), "seq_000003")


@pytest.mark.parametrize(("name", "count"), LABELS)
def test_joints_project_to_the_labels_within_half_a_pixel(data, name, count):
    """Compare every row of the data set's labels, with frames by image name and persons by subject."""
    seen = {row["name"].split("/")[1]: row for row in ingest(data / "ue5" / name).rows["sources"]}
    with np.load(data / "ue5" / name / "processed_labels" / f"{name}.npz", allow_pickle=False) as labels:
        table = list(zip(labels["imgname"], labels["sub"], labels["gtkps"], strict=True))
    errors = []
    for image, subject, keypoints in table:
        row, frame = seen[str(image).split("/")[0]], int(str(image)[-8:-4])
        joints = row["truth_joints"][row["subject"].split("+").index(str(subject)), frame]
        camera = joints @ row["world_to_camera"][frame, :, :3].T + row["world_to_camera"][frame, :, 3]
        image_points = camera @ row["K"][frame].T
        errors.append(abs(image_points[:, :2] / image_points[:, 2:] - keypoints[:, :2]).max())
    assert len(errors) == count
    assert max(errors) < 0.5


def place(job, body, **columns):
    """Edit the row of a body."""

    def change(rows):
        header = rows[0]
        for row in rows:
            if row[2] == body:
                for name, value in columns.items():
                    row[header.index(name)] = str(value)

    edit(job / "be_seq.csv", change)


def test_a_body_that_is_never_in_the_picture_is_named(job):
    place(job, "synth_c_0001", X=-900)
    assert "body 1 (synth_c_0001) is never in the picture" in message(job)


def test_a_body_that_another_view_sees_is_no_error(job):
    """One view's camera is turned away from all bodies; the other view of the capture sees them."""
    rows = {}

    def add_group(table):
        group = next(row for row in table if row[1] == "Group")
        rows["bodies"] = [row for row in table if row[1] == "Body"]
        table.append([*group[:9], group[9].replace("seq_000003", "seq_000004")])
        table.extend(rows["bodies"])

    edit(job / "be_seq.csv", add_group)
    cameras = job / "ground_truth/camera"
    shutil.copyfile(job / "mp4/seq_000003.mp4", job / "mp4/seq_000004.mp4")
    shutil.copyfile(cameras / "seq_000003_camera.csv", cameras / "seq_000004_camera.csv")

    def turn_away(table):
        for row in table[1:]:
            row[4] = str(float(row[4]) + 180)

    edit(cameras / "seq_000004_camera.csv", turn_away)
    outcome = ingest(job)
    assert not outcome.rejects
    assert outcome.rows["captures"][0]["views"] == ["job/seq_000003", "job/seq_000004"]
    edit(cameras / "seq_000003_camera.csv", turn_away)
    assert all("is never in any of the 2 views" in reject.message for reject in ingest(job).rejects)


def test_a_camera_inside_the_ground_is_told(job):
    def sink(rows):
        rows[8][3] = "-250"

    edit(job / "ground_truth/camera/seq_000003_camera.csv", sink)
    assert "m inside the ground in frame 7" in message(job)


def test_a_stated_ground_counts_without_bodies(job):
    shutil.rmtree(job / "motions_npz")
    assert not ingest(job).rejects

    def state(rows):
        rows[1][9] += ";ground_height_world=400"

    edit(job / "be_seq.csv", state)
    assert "inside the ground" in message(job)


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [("poses", np.nan, "not finite"), ("trans", np.inf, "not finite"), ("rest_joints", 100, "check the units")],
)
def test_motions_that_cannot_be_true_are_told(job, key, value, expected):
    path = job / "motions_npz/synth_c_0001.npz"
    with np.load(path) as file:
        motion = dict(file)
    motion[key] = motion[key] * value
    np.savez(path, **motion)
    assert expected in message(job)


def test_cameras_that_are_not_finite_are_told(job):
    edit(job / "ground_truth/camera/seq_000003_camera.csv", lambda rows: rows[5].__setitem__(4, "nan"))
    assert "not finite" in message(job)


@pytest.mark.parametrize(
    "facts", ["frames=1000000000000", "frames=x", "ground_height_world=inf", f"sequence_name={'s' * 4096}"]
)
def test_hostile_facts_of_a_scene_cost_their_sequence(job, facts):
    edit(job / "be_seq.csv", lambda rows: rows[1].__setitem__(9, f"{rows[1][9]};{facts}"))
    assert all(reject.error_class == "data" for reject in ingest(job).rejects)
    assert not ingest(job).rows["sources"]


def test_numbers_too_large_to_store_are_told(job):
    shutil.rmtree(job / "motions_npz")
    edit(job / "ground_truth/camera/seq_000003_camera.csv", lambda rows: rows[5].__setitem__(1, "1e300"))
    assert "too large" in message(job)


def test_frames_are_counted_where_the_container_says_nothing(job, tmp_path):
    """A fragmented MP4 does not state the number of frames in its header."""
    import av

    video = job / "mp4/seq_000003.mp4"
    images = [image[::4, ::4].copy() for image in frames(video)]
    small = tmp_path / "small.mp4"
    small.write_bytes(encode(images[:-1], Fraction(30)))
    with (
        av.open(str(small)) as read,
        av.open(str(video), "w", options={"movflags": "frag_keyframe+empty_moov"}) as write,
    ):
        stream = write.add_stream_from_template(read.streams.video[0])
        for packet in read.demux(read.streams.video[0]):
            if packet.dts is not None:
                packet.stream = stream
                write.mux(packet)
    assert "the pictures 59, the cameras 60" in message(job)


def test_a_motion_that_unpacks_to_more_than_it_may_is_refused(job, monkeypatch):
    monkeypatch.setattr("opendimo.pipelines.sources.renders.motion.MAX_BYTES", 10_000)
    assert "bytes unpacked are more than" in message(job)
