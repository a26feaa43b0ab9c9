"""The render manifest: axes and units checked by projection, views, and rejected fields."""

import json
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from opendimo.model.body.mannequin import mannequin_file
from opendimo.model.body.skeleton import BODY_JOINTS
from opendimo.pipelines.sources import SourcesStage, unreal
from opendimo.pipelines.sources.config import SourcesConfig
from opendimo.pipelines.sources.renders import manifest
from opendimo.pipelines.sources.renders.declared_axes import World, look, look_by_angles, look_by_quaternion
from opendimo.pipelines.sources.renders.jobs import jobs_in
from opendimo.pipelines.sources.renders.unreal_axes import point, world_to_camera
from opendimo.storage_schemas.conventions import project, transform
from tests.pipelines.render_jobs import ingest, message, write_json, write_pictures, write_video

FRAMES, SIZE = 4, (64, 36)
UNREAL = {"forward": "+x", "right": "+y", "up": "+z"}
K = np.array([[[50.0, 0, 32], [0, 50, 18], [0, 0, 1]]])

worlds = st.builds(
    lambda order, signs, metres: World(*(s + a for s, a in zip(signs, order, strict=True)), metres=metres),
    st.sampled_from(list(permutations("xyz"))),
    st.tuples(*[st.sampled_from("+-")] * 3),
    st.sampled_from([1.0, 0.01, 0.001]),
)
angles = st.tuples(st.floats(-180, 180), st.floats(-89, 89), st.floats(-180, 180))
places = st.tuples(*[st.floats(-10, 10)] * 3)


def in_file(world, forward_right_up):
    """Convert a point given in metres forward, right and up to the coordinates of a file with this world."""
    return np.array(forward_right_up) @ world.directions() / world.metres


def camera_axes_of(yaw, pitch, roll):
    """Return forward, right and up of a camera in (forward, right, up) of the world, by elementary geometry."""
    y, p, r = np.deg2rad([yaw, pitch, roll])
    forward = np.array([np.cos(p) * np.cos(y), np.cos(p) * np.sin(y), np.sin(p)])
    level = np.array([-np.sin(y), np.cos(y), 0])
    above = np.array([-np.sin(p) * np.cos(y), -np.sin(p) * np.sin(y), np.cos(p)])
    return forward, np.cos(r) * level - np.sin(r) * above, np.cos(r) * above + np.sin(r) * level


def by_hand(axes, place, seen):
    """Project a point with a pinhole camera: pixels right of and below the picture's middle."""
    forward, right, up = (np.dot(axis, np.subtract(seen, place)) for axis in axes)
    assume(forward > 0.1)
    return [32 + 50 * right / forward, 18 - 50 * up / forward]


@given(worlds, places, places, angles)
def test_any_declared_world_is_seen_as_geometry_says(world, place, seen, turn):
    axes = camera_axes_of(*turn)
    expected = by_hand(axes, place, seen)
    at, (forward, right, up) = [in_file(world, place)], (in_file(world, axis) * world.metres for axis in axes)
    own = World("+z", "+x", "-y")  # the camera's own axes, as OpenCV's
    camera_to_file = np.stack([right, -up, forward], axis=1)
    poses = [look(world, at, [forward], [up]), look_by_angles(world, at, [turn])]
    if np.linalg.det(camera_to_file) > 0:  # a quaternion cannot take right-handed axes to left-handed ones
        poses.append(look_by_quaternion(world, own, at, [Rotation.from_matrix(camera_to_file).as_quat()]))
    for pose in poses:
        assert np.linalg.det(pose[0, :, :3]) == pytest.approx(1)
        pixel = project(transform(world.points([in_file(world, seen)]), pose), K)[0]
        assert pixel == pytest.approx(expected, rel=1e-6, abs=1e-6)


@given(places, angles)
def test_unreal_declared_is_unreal(place, turn):
    world = World("+x", "+y", "+z", 0.01)
    assert world.points(place) == pytest.approx(point(place))
    assert look_by_angles(world, [place], [turn]) == pytest.approx(world_to_camera([place], [turn]))


@given(worlds, places)
def test_distances_are_metres(world, place):
    assert np.linalg.norm(world.points(in_file(world, place))) == pytest.approx(np.linalg.norm(place), abs=1e-9)


def test_quaternion_of_a_left_handed_engine():
    """In Unreal, yaw by 90 degrees is a quaternion about +Z that rotates the camera's +X to +Y."""
    world, half = World("+x", "+y", "+z", 0.01), np.sqrt(0.5)
    turned = look_by_quaternion(world, world, [[1.0, 2, 3]], [[0, 0, half, half]])
    assert turned == pytest.approx(world_to_camera([[1, 2, 3]], [[90, 0, 0]]))


def skeleton(x=400.0, frames=FRAMES):
    """Return a body of 1.7 m height, 4 m along +x, in Unreal's axes."""
    heights = np.linspace(0, 170, len(BODY_JOINTS))
    return [[[x, 2.0 * i - 20 + frame, float(h)] for i, h in enumerate(heights)] for frame in range(frames)]


def job(folder, **changes):
    """Return a job with one sequence, one body and two cameras."""
    camera = {"position": [[0, 0, 120]], "yaw_pitch_roll": [[0, 0, 0]], "focal_length": [18], "sensor": [36, 20.25]}
    views = [
        {"name": "cam1", "video": "cam1.mp4", "camera": camera},
        {
            "name": "cam2",
            "images": "cam2/%04d.png",
            "camera": {**camera, "yaw_pitch_roll": [[y, 0, 0] for y in range(4)]},
        },
    ]
    body = {"name": "ann", "joint_names": list(BODY_JOINTS), "joints": skeleton()}
    take = {"name": "walk", "frames": FRAMES, "subject": "ann", "bodies": [body], "views": views}
    content = {
        "format": "render manifest", "version": 1, "units": "cm", "axes": UNREAL, "fps": 30, "licence": "CC0-1.0",
        "sequences": [take],
    } | changes  # fmt: skip
    write_video(folder / "cam1.mp4", FRAMES)
    write_pictures(folder / "cam2/%04d.png", range(10, 10 + FRAMES))
    return write_json(folder / "render_manifest.json", content)


def change(path, edit):
    content = json.loads(path.read_text())
    edit(content, content["sequences"][0])
    path.write_text(json.dumps(content))


def test_views_of_a_sequence_are_one_capture(tmp_path):
    job(tmp_path / "job")
    outcome = ingest(tmp_path)
    assert not outcome.rejects
    first, second = outcome.rows["sources"]
    (capture,) = {row["capture_id"]: row for row in outcome.rows["captures"]}.values()
    assert capture["views"] == ["job/walk/cam1", "job/walk/cam2"] and capture["take"] == "walk"
    assert (first["container"], second["container"], second["fps_num"]) == ("mov,mp4,m4a,3gp,3g2,mj2", "image2", 30)
    assert (first["licence"], first["subject"]) == ("CC0-1.0", "ann")
    assert first["truth_joints"].shape == (1, FRAMES, 22, 3) and "truth_betas" not in first
    assert first["truth_joints"][0, 1, -1] == pytest.approx([0.23, -1.7, 4])
    assert first["world_to_camera"].shape == (1, 3, 4) and second["world_to_camera"].shape == (FRAMES, 3, 4)
    assert first["K"][0].tolist() == [[32, 0, 32], [0, 32, 18], [0, 0, 1]]


def test_a_take_is_checked_once_for_all_its_views(tmp_path, monkeypatch):
    path = job(tmp_path)
    change(path, lambda _, take: take["bodies"][0].update(joints=skeleton(-400.0)))  # visible in no view
    listed = unreal.discover(tmp_path, jobs_in(tmp_path), SourcesConfig())
    checked = []
    read = manifest.read_take
    monkeypatch.setattr(manifest, "read_take", lambda *given: checked.append(given) or read(*given))
    assert len(SourcesStage("lake", SourcesConfig()).run(listed).rejects) == 2 and len(checked) == 1


def test_same_motion_in_two_jobs_is_one_capture(tmp_path):
    for name in ("one", "two"):
        job(tmp_path / name)
    change(
        tmp_path / "two/render_manifest.json", lambda _, take: take["bodies"][0]["joints"][0][0].__setitem__(0, 400.001)
    )
    assert len({row["capture_id"] for row in ingest(tmp_path).rows["sources"]}) == 1
    change(tmp_path / "two/render_manifest.json", lambda _, take: take["bodies"][0]["joints"][0][0].__setitem__(0, 410))
    assert len({row["capture_id"] for row in ingest(tmp_path).rows["sources"]}) == 2


def test_a_capture_may_be_named_within_a_project(tmp_path):
    for name in ("one", "two"):
        path = job(tmp_path / name)
        change(path, lambda _, take: take.update(capture="take 7", bodies=[]))
    assert "project: is missing" in ingest(tmp_path).rejects[0].message
    for name in ("one", "two"):
        change(tmp_path / name / "render_manifest.json", lambda content, _: content.update(project="p"))
    outcome = ingest(tmp_path)
    assert len({row["capture_id"] for row in outcome.rows["sources"]}) == 1 and len(outcome.done) == 4


def test_turned_pictures_are_upright_with_their_camera(tmp_path):
    path = job(tmp_path)
    before = ingest(tmp_path).rows["sources"][0]
    for degrees, where in (
        (90, lambda u, v: (36 - v, u)),
        (180, lambda u, v: (64 - u, 36 - v)),
        (270, lambda u, v: (v, 64 - u)),
    ):
        change(path, lambda _, take, turn=degrees: take["views"][0].update(turn=turn))
        row = ingest(tmp_path).rows["sources"][0]
        assert row["rotation"] == degrees
        assert (row["width"], row["height"]) == ((36, 64) if degrees != 180 else (64, 36))
        joints = before["truth_joints"][0, :1]
        seen = project(transform(joints, before["world_to_camera"]), before["K"])[0]
        turned = project(transform(joints, row["world_to_camera"]), row["K"])[0]
        assert turned == pytest.approx(np.array([where(*pixel) for pixel in seen]), abs=1e-3)


def test_a_placed_motion_faces_where_it_is_turned_to(tmp_path):
    """SMPL-X faces +Z with its left along +X; with yaw 0 it faces forward, with its left side on the left."""
    path = job(tmp_path)
    random = np.random.default_rng(0)
    poses = random.normal(0, 0.1, (FRAMES + 3, 165)) * (np.arange(165) >= 3)
    np.savez(tmp_path / "m.npz", poses=poses, trans=np.zeros((FRAMES + 3, 3)), betas=np.zeros(10), mocap_frame_rate=30)
    placed = {"file": "m.npz", "position": [400, 0, 120], "yaw": 0, "start_frame": 3}
    change(path, lambda _, take: take.update(bodies=[{"name": "ann", "motion": placed}]))
    row = ingest(tmp_path, SourcesConfig(body_model=str(mannequin_file()))).rows["sources"][0]
    assert row["truth_joints"].shape == (1, FRAMES, 52, 3) and row["truth_betas"].shape == (1, 10)
    left, right = (row["truth_joints"][0, 0, BODY_JOINTS.index(f"{side}_shoulder")] for side in ("left", "right"))
    assert left[0] < right[0]  # our world: x right
    head, pelvis = row["truth_joints"][0, 0, 15], row["truth_joints"][0, 0, 0]
    assert head[1] < pelvis[1]
    change(path, lambda _, take: take["bodies"][0]["motion"].update(yaw=90))
    turned = ingest(tmp_path, SourcesConfig(body_model=str(mannequin_file()))).rows["sources"][0]
    left, right = (turned["truth_joints"][0, 0, BODY_JOINTS.index(f"{side}_shoulder")] for side in ("left", "right"))
    assert left[2] > right[2]  # it faces right, so its left is farther ahead


def test_references_are_kept_and_not_read(tmp_path):
    path = job(tmp_path)
    change(path, lambda _, take: take["views"][0].update(references=[{"kind": "depth", "path": "depth/%04d.exr"}]))
    first, second = ingest(tmp_path).rows["sources"]
    assert first["references"] == [{"kind": "depth", "path": str(tmp_path / "depth/%04d.exr")}]
    assert second["references"] is None


def test_the_example_of_the_readme_is_ingested(tmp_path):
    text = (Path(unreal.__file__).parent / "README.md").read_text()
    (example,) = (part.split("```")[0] for part in text.split("```json")[1:] if "render manifest" in part)
    content = json.loads(example)
    (body,) = content["sequences"][0].pop("bodies")
    write_json(tmp_path / "render_manifest.json", content)
    write_pictures(tmp_path / "cam1/shot.%04d.png", range(2))
    (row,) = ingest(tmp_path).rows["sources"]
    assert row["world_to_camera"].shape == (2, 3, 4) and row["licence"] == "CC-BY-4.0"
    content["sequences"][0]["bodies"] = [body]
    write_json(tmp_path / "render_manifest.json", content)
    assert "no motion" in message(tmp_path)


def one_view(content, take):
    take["views"].pop()


FIELDS = [
    (lambda c, t: c.pop("units"), "units: Field required"),
    (lambda c, t: c.update(unit="m"), "unit: Extra inputs are not permitted"),
    (lambda c, t: c.update(version=2), "version: Input should be 1"),
    (lambda c, t: c.update(fps="30/0"), "fps: should be frames per second"),
    (lambda c, t: c.update(axes={**UNREAL, "up": "-x"}), "axes: forward +x, right +y and up -x should be three axes"),
    (lambda c, t: t.update(frames="4"), "sequences[0].frames: Input should be a valid integer"),
    (lambda c, t: t["views"][0]["camera"].pop("sensor"), "sequences[0].views[0].camera.sensor: Field required"),
    (lambda c, t: t["views"][0]["camera"].update(focal_length=[0]), "camera.focal_length[0]: Input should be greater"),
    (lambda c, t: t["views"][0]["camera"].update(position=[[0, 0]]), "camera.position[0]: List should have at least 3"),
    (lambda c, t: t["views"][0]["camera"].update(position=[[0, 0, 1]] * 3), "views[0].camera.position has 3 entries"),
    (lambda c, t: t["views"][0]["camera"].update(forward=[[1, 0, 0]]), "should have one of yaw_pitch_roll"),
    (lambda c, t: t["views"][0].update(images="x_%04d.png"), "views[0]: should have either video or images"),
    (lambda c, t: t["views"][0].update(video="../cam1.mp4"), "video: should be a path below the manifest's folder"),
    (lambda c, t: t["views"][0].update(video="a" * 300), "video: should be a path below the manifest's folder"),
    (lambda c, t: t["views"][0].update(name="a/b"), "views[0].name: should consist of letters"),
    (lambda c, t: t["views"].append(t["views"][0]), "two views have one name"),
    (lambda c, t: t["bodies"][0]["joints"].pop(), "bodies[0].joints has 3 frames, frames is 4"),
    (lambda c, t: t["bodies"][0]["joints"][2].pop(), "joints[2] has 21 points, joint_names 22"),
    (lambda c, t: t["bodies"][0].pop("joint_names"), "joints and joint_names belong together"),
]


@pytest.mark.parametrize(("edit", "expected"), FIELDS)
def test_the_field_that_is_wrong_is_named(tmp_path, edit, expected):
    change(job(tmp_path), edit)
    assert expected in message(tmp_path)


@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        (lambda c, t: t["bodies"][0]["joint_names"].__setitem__(15, "skull"), "lacks the joints head"),
        (lambda c, t: c.update(units="m"), "check the units"),
        (lambda c, t: c.update(fps=25), "has 30 frames per second, 25 were stated"),
        (lambda c, t: t["views"][0]["camera"].update(yaw_pitch_roll=[[180, 0, 0]]), "is never in the picture"),
        (
            lambda c, t: t.update(ground=0) or t["views"][0]["camera"].update(position=[[0, 0, -50]]),
            "inside the ground",
        ),
        (lambda c, t: t["views"][0]["camera"].update(sensor=[36, 36]), "shape of the camera's sensor"),
        (lambda c, t: t["views"][0].update(video="gone.mp4"), "no video"),
    ],
)
def test_what_cannot_be_true_is_refused(tmp_path, edit, expected):
    path = job(tmp_path)
    change(path, one_view)
    change(path, edit)
    assert expected in message(tmp_path)


def test_frames_of_pictures_and_manifest_must_agree(tmp_path):
    job(tmp_path)
    (tmp_path / "cam2/0013.png").unlink()
    assert "the pictures 3, the cameras 4" in message(tmp_path)


def test_forward_and_up_have_to_be_square(tmp_path):
    path = job(tmp_path)
    change(path, one_view)

    def lean(content, take):
        camera = take["views"][0]["camera"]
        camera.pop("yaw_pitch_roll")
        camera.update(forward=[[1, 0, 0]], up=[[0.6, 0, 0.8]])

    change(path, lean)
    assert "views[0].camera: forward and up are not unit vectors at right angles in frame 0" in message(tmp_path)


def test_links_out_of_the_folder_are_refused(tmp_path):
    path = job(tmp_path / "job")
    change(path, one_view)
    outside = (tmp_path / "job/cam1.mp4").rename(tmp_path / "outside.mp4")
    (tmp_path / "job/cam1.mp4").symlink_to(outside)
    assert "leaves the folder of the manifest" in message(tmp_path / "job")


def test_pictures_that_are_links_are_refused(tmp_path):
    job(tmp_path / "job")
    outside = (tmp_path / "job/cam2/0011.png").rename(tmp_path / "outside.png")
    (tmp_path / "job/cam2/0011.png").symlink_to(outside)
    assert "0011.png is a link" in message(tmp_path / "job")


@pytest.mark.parametrize("text", ["", "[]", '{"fps": NaN}', "[" * 100_000, "\xff"])
def test_what_is_no_manifest_is_refused(tmp_path, text):
    job(tmp_path).write_bytes(text.encode("latin-1"))
    assert "render_manifest.json" in message(tmp_path)


def test_a_bad_sequence_costs_only_itself(tmp_path):
    path = job(tmp_path)
    change(path, lambda content, take: content["sequences"].extend([{"name": "bad"}, take]))
    outcome = ingest(tmp_path)
    assert len(outcome.done) == 2
    assert [
        "sequences[1].frames: Field required" in outcome.rejects[0].message,
        "twice" in outcome.rejects[1].message,
    ] == [1, 1]


def test_only_what_changed_is_work_again(tmp_path):
    path = job(tmp_path)
    before = {work.name: work.key for work in unreal.discover(tmp_path, jobs_in(tmp_path), SourcesConfig())}
    change(path, lambda _, take: take["views"][0]["camera"].update(focal_length=[19]))
    after = {work.name: work.key for work in unreal.discover(tmp_path, jobs_in(tmp_path), SourcesConfig())}
    assert [name for name in before if before[name] != after[name]] == [f"{tmp_path.name}/walk/cam1"]
