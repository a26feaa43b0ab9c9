"""Tests of labels of complete clips: from ground truth, several views, and one view; and of the poses stage."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from opendimo.model.body.load import Body, load_body
from opendimo.model.body.skeleton import JOINTS
from opendimo.pipelines.engine.revisions import best_poses
from opendimo.pipelines.engine.stage import DataError
from opendimo.pipelines.poses.fit_config import FitConfig
from opendimo.pipelines.poses.label import pose_row
from opendimo.pipelines.poses.landmarker import Landmarker
from opendimo.pipelines.poses.landmarks import Landmarks
from opendimo.pipelines.poses.multiview import multi_view_labels
from opendimo.pipelines.poses.oneview import one_view_label
from opendimo.pipelines.poses.stage import PosesConfig, PosesStage, plan
from opendimo.pipelines.poses.truth import truth_label
from opendimo.pipelines.poses.view import view_of
from opendimo.pipelines.quality.policy import Policy
from opendimo.storage_schemas import ids
from opendimo.storage_schemas.conventions import project, transform
from opendimo.storage_schemas.lake.lake import Lake
from opendimo.storage_schemas.media import video
from opendimo.storage_schemas.releases.pose_errors import pa_mpjpe
from opendimo.storage_schemas.tables import TABLES

FRAMES = 12
GRAVITY = np.array([0, 0, -1.0])
K = np.array([[[700.0, 0, 319.5], [0, 700, 239.5], [0, 0, 1]]])


@pytest.fixture(scope="module")
def body() -> Body:
    return load_body()


def looking_at(centre: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Return world_to_camera [3, 4] of a camera at `centre` that looks at `target`, in a world with Z up."""
    forward = (target - centre) / np.linalg.norm(target - centre)
    right = np.cross(forward, [0, 0, 1.0])
    right /= np.linalg.norm(right)
    R = np.stack([right, np.cross(forward, right), forward])
    return np.c_[R, -R @ centre]


def orbit(frames: int = FRAMES, start: float = 0.0, turn: float = 0.5) -> np.ndarray:
    angles = start + turn * np.linspace(0, 1, frames)
    centres = np.stack([3.5 * np.cos(angles), 3.5 * np.sin(angles), 1.3 + 0 * angles], 1)
    return np.stack([looking_at(c, np.array([0, 0, 0.9])) for c in centres]).astype(np.float32)


def clip_row(**changes: Any) -> dict[str, Any]:
    row = {name: None for name in TABLES["clips"].schema.names if name != "run_id"}
    row |= {"clip_id": "c1", "source_id": "s1", "capture_id": "p1", "view": "a", "kind": "unreal", "name": "take"}
    row |= {"start_frame": 5, "end_frame": 5 + FRAMES, "frames": FRAMES, "fps_num": 30, "fps_den": 1}
    row |= {"source_width": 640, "source_height": 480, "width": 640, "height": 480, "video_sha256": "v", "metric": True}
    row |= {"people": 1.0, "person_share": 1.0, "person_height": 0.8, "sharpness": 100.0, "motion": 0.0}
    row |= {"subject_motion": 0.01, "exposure": 0.5, "frame_hashes": [], "work_key": "w", "K": K.astype(np.float32)}
    return row | {"world_to_camera": orbit()} | changes


def source_row(body: Body, bodies: int = 1) -> dict[str, Any]:
    """Return a source row with frames 0..19 of people who stand 2 m apart, turn, and swing their arms; Z up."""
    T = 20
    upright = Rotation.from_rotvec([np.pi / 2, 0, 0])  # the body's Y up to the world's Z up
    root = np.stack([(Rotation.from_rotvec([0, 0, 0.05 * t]) * upright).as_rotvec() for t in range(T)])
    pose = np.random.default_rng(0).normal(0, 0.1, (21, 3)) + np.zeros((T, 1, 1))
    pose[:, 15, 2] = np.linspace(-1, 0, T)
    transl = np.stack([np.linspace(0, 0.3, T), np.zeros(T), np.full(T, 1.3)], 1)
    row = {"source_id": "s1", "name": "take", "truth_betas": np.zeros((bodies, 10))}
    row |= {"truth_global_orient": np.stack([root] * bodies), "truth_body_pose": np.stack([pose] * bodies)}
    row["truth_hand_pose"] = np.full((bodies, T, 2, 15, 3), 0.1)
    row["truth_transl"] = np.stack([transl + np.array([0, 2.0 * p, 0]) for p in range(bodies)])
    row = {k: np.float32(v) if isinstance(v, np.ndarray) else v for k, v in row.items()}
    names = ("truth_global_orient", "truth_body_pose", "truth_hand_pose", "truth_transl", "truth_betas")
    people = [body.joints(*(torch.tensor(row[n][p]) for n in names)) for p in range(bodies)]
    return row | {"truth_joints": torch.stack(people).numpy()}


def posed(body: Body, label: Any) -> np.ndarray:
    m = label.motion
    arrays = (m.global_orient, m.body_pose, m.hand_pose, m.transl, m.betas)
    return body.joints(*(torch.tensor(np.float32(a)) for a in arrays)).numpy()


@pytest.mark.parametrize("joints", [52, 22])
def test_truth_projects_to_the_given_joints(body: Body, joints: int) -> None:
    source, clip = source_row(body), clip_row()
    true = transform(source["truth_joints"][0, 5 : 5 + FRAMES], orbit())
    source["truth_joints"] = source["truth_joints"][:, :, :joints]
    label = truth_label(clip, source, view_of(clip), body, FitConfig(), GRAVITY)
    pixels = project(true, np.broadcast_to(K, (FRAMES, 3, 3)))
    assert np.abs(label.joints_2d[..., :2] - pixels).max() < 0.01
    assert np.abs(label.motion.joints - true).max() < 1e-5
    assert np.abs(posed(body, label) - true).max() < 1e-4  # parameters and joints are consistent
    assert label.valid.all() and label.hand_valid.all() and label.weight == 1


def test_truth_of_another_skeleton_keeps_its_joints_and_root(body: Body) -> None:
    source, clip = source_row(body), clip_row()
    source["truth_joints"] = source["truth_joints"][:, :, :22] * 1.1
    label = truth_label(clip, source, view_of(clip), body, FitConfig(), GRAVITY)
    true = transform(source["truth_joints"][0, 5 : 5 + FRAMES], orbit())
    assert np.abs(label.motion.joints[:, :22] - true).max() < 1e-5
    assert np.abs(posed(body, label)[:, 0] - true[:, 0]).max() < 1e-5
    finger = np.linalg.norm(label.motion.joints[:, 22] - label.motion.joints[:, 20], axis=-1)
    own = np.linalg.norm(posed(body, label)[:, 22] - posed(body, label)[:, 20], axis=-1)
    assert np.allclose(finger, 1.1 * own, rtol=1e-3)


def test_truth_of_joints_alone_is_fitted(body: Body) -> None:
    source, clip = source_row(body), clip_row()
    true = transform(source["truth_joints"][0, 5 : 5 + FRAMES], orbit())
    source = {"name": "take", "truth_joints": source["truth_joints"]}
    label = truth_label(clip, source, view_of(clip), body, FitConfig(), GRAVITY)
    assert np.abs(label.motion.joints - true).max() < 1e-5
    assert 1000 * pa_mpjpe(posed(body, label)[:, :22], true[:, :22]).mean() < 15


def test_truth_is_that_of_the_person_in_the_track(body: Body) -> None:
    source = source_row(body, bodies=2)
    clip = clip_row(world_to_camera=orbit(turn=0.0))
    for person in range(2):
        pixels = project(
            transform(source["truth_joints"][person, 5 : 5 + FRAMES], orbit(turn=0.0)), K.repeat(FRAMES, 0)
        )
        track = np.concatenate([pixels.min(1), pixels.max(1)], 1)
        track[3] = np.nan
        label = truth_label({**clip, "track": track}, source, view_of(clip), body, FitConfig(), GRAVITY)
        assert np.abs(label.joints_2d[..., :2] - pixels).max() < 0.01


def test_truth_without_cameras_or_of_another_length_is_refused(body: Body) -> None:
    source = source_row(body)
    with pytest.raises(DataError, match="without cameras"):
        clip = clip_row(world_to_camera=None)
        truth_label(clip, source, view_of(clip), body, FitConfig(), None)
    with pytest.raises(DataError, match="has 5 frames"):
        clip = clip_row(start_frame=15, end_frame=27)
        truth_label(clip, source, view_of(clip), body, FitConfig(), None)


def seen(label: Any, joints: np.ndarray, clip: dict[str, Any], noise: float) -> Landmarks:
    """Return landmarks of true joints [T, 52, 3] in the camera frame: one per named joint, without the face."""
    view = view_of(clip)
    pixels = view.pixels(joints) + np.random.default_rng(0).normal(0, noise, (*joints.shape[:2], 2))
    found = Landmarks.nothing(len(joints))
    body_of = {11: 16, 12: 17, 13: 18, 14: 19, 15: 20, 16: 21, 23: 1, 24: 2, 25: 4, 26: 5, 27: 7, 28: 8, 31: 10, 32: 11}
    for landmark, joint in body_of.items():
        found.body[:, landmark, :2], found.body[:, landmark, 3] = pixels[:, joint], 1
        found.world[:, landmark] = joints[:, joint]
    found.body_found[:] = found.world_found[:] = True
    return found


def test_views_agree_on_the_motion_and_one_lying_view_does_not_matter(body: Body) -> None:
    source = source_row(body)
    world = source["truth_joints"][0, 5 : 5 + FRAMES]
    distortion = [0.05, -0.02, 1e-3, 0.0]
    clips = [clip_row(world_to_camera=orbit(1, s), distortion=distortion) for s in (0.0, 1.5, 3.0, 4.5)]
    landmarks = [seen(None, view_of(c).in_camera(world), c, noise=1.0) for c in clips]
    landmarks[2].body[..., :2] += 60  # out of sync, or badly calibrated
    labels = multi_view_labels(landmarks, [view_of(c) for c in clips], body, FitConfig(), GRAVITY)
    residual = [label.cross_view for label in labels]
    assert residual[2] > 50 and max(residual[:2] + residual[3:]) < 5
    limbs = [4, 5, 7, 8, 16, 17, 18, 19, 20, 21]
    for label, clip in zip(labels, clips, strict=True):
        true = view_of(clip).in_camera(world)
        assert 1000 * np.linalg.norm(label.motion.joints - true, axis=-1)[:, limbs].mean() < 25
        assert np.abs(posed(body, label) - label.motion.joints).max() < 1e-4
        assert label.valid.all() and not label.hand_valid.any()
        assert label.reprojection < 0.03 and label.foot_skate is not None


def test_views_that_share_nothing_are_refused(body: Body) -> None:
    clips = [clip_row(world_to_camera=orbit(1, s)) for s in (0.0, 1.5)]
    with pytest.raises(DataError, match="no two views agree"):
        multi_view_labels([Landmarks.nothing(FRAMES)] * 2, [view_of(c) for c in clips], body, FitConfig())


def test_frames_without_a_person_are_invalid_and_finite(body: Body) -> None:
    clip = clip_row()
    world = source_row(body)["truth_joints"][0, 5 : 5 + FRAMES]
    landmarks = seen(None, view_of(clip).in_camera(world), clip, noise=1.0)
    for array in (landmarks.body, landmarks.world, landmarks.body_found, landmarks.world_found):
        array[4:7] = 0
    label = one_view_label(landmarks, view_of(clip), body, FitConfig(), GRAVITY)
    assert label.valid.tolist() == [not 4 <= t < 7 for t in range(FRAMES)]
    assert label.confidence[5] == 0 and label.weight < 1
    motion = label.motion
    arrays = (motion.global_orient, motion.body_pose, motion.hand_pose, motion.transl, motion.joints, label.joints_2d)
    assert all(np.isfinite(a).all() for a in arrays)
    with pytest.raises(DataError, match="no person was found"):
        one_view_label(Landmarks.nothing(FRAMES), view_of(clip), body, FitConfig())


@pytest.fixture(scope="module")
def juggler(data: Path) -> dict[str, Any]:
    """Return 16 frames of a man juggling a ball, his landmarks, and his clip row without cameras."""
    frames = video.decode(data / "internet" / "juggle_static_fullbody.mp4", start=20, stop=36, size=(854, 480))
    track = np.repeat([[330.0, 0, 560, 480]], 16, 0).astype(np.float32)
    clip = clip_row(
        clip_id="c2", source_id="s2", capture_id="p2", kind="internet", K=None, world_to_camera=None, metric=None,
        width=854, height=480, start_frame=0, end_frame=16, frames=16, track=track,
    )  # fmt: skip
    return {"frames": frames, "clip": clip, "landmarks": Landmarker().detect(frames, track)}


def test_a_real_man_is_met(body: Body, juggler: dict[str, Any]) -> None:
    landmarks, view = juggler["landmarks"], view_of(juggler["clip"])
    assert landmarks.body_found.all() and landmarks.hands_found.any()
    label = one_view_label(landmarks, view, body, FitConfig())
    assert label.valid.all() and label.reprojection < 0.02 and label.weight > 0.5
    nose, feet = landmarks.body[:, 0, 1], landmarks.body[:, 29:33, 1].mean(1)
    assert (label.joints_2d[:, 15, 1] > nose - 10).all()  # the head joint is below the nose, the feet are at the feet
    assert np.abs(label.joints_2d[:, [10, 11], 1].mean(1) - feet).max() < 15
    assert (label.motion.joints[..., 2] > 1).all() and (label.motion.joints[..., 2] < 10).all()
    left, right = label.joints_2d[:, 16, 0], label.joints_2d[:, 17, 0]
    assert (left > right).all()  # he faces the camera
    height = np.linalg.norm(label.motion.joints[:, 15] - label.motion.joints[:, 7], axis=-1)
    assert (height > 1.1).all() and (height < 1.7).all()


def test_what_the_landmark_model_saw_is_stored_beside_the_fit(body: Body, juggler: dict[str, Any]) -> None:
    landmarks = juggler["landmarks"]
    label = one_view_label(landmarks, view_of(juggler["clip"]), body, FitConfig())
    row = pose_row("c2", "w", "monocular mediapipe", "", label)
    left_wrist, seen = JOINTS.index("left_wrist"), landmarks.body[:, 15]
    assert np.array_equal(row["landmarks_2d"][:, left_wrist, :2], seen[:, :2])
    assert not np.array_equal(row["joints_2d"][:, left_wrist, :2], seen[:, :2])


def test_landmarks_do_not_depend_on_the_clip_before(juggler: dict[str, Any]) -> None:
    landmarker = Landmarker()
    clip, frames = juggler["clip"], juggler["frames"][:4]
    first = landmarker.detect(frames, clip["track"][:4])
    landmarker.detect(juggler["frames"][8:12, :, ::-1], clip["track"][:4])
    again = landmarker.detect(frames, clip["track"][:4])
    assert np.array_equal(first.body, again.body) and np.array_equal(first.hands, again.hands)
    with pytest.raises(ValueError):
        landmarker.detect(frames, clip["track"][:6])


def lake_with(
    tmp_path: Path,
    clips: list[dict[str, Any]],
    source: dict[str, Any],
    bytes_of: dict[str, bytes],
    unstated: tuple[str, ...] = (),
) -> Lake:
    """Create a lake of these clips; the captures `unstated` have no gravity."""
    lake = Lake(tmp_path / "lake")
    base = {n: "x" for n in ("uri", "local_path", "content_sha256", "container", "codec", "view")}
    base |= {"size": 1, "width": 640, "height": 480, "rotation": 0, "fps_num": 30, "fps_den": 1}
    base |= {"annotation_sha256": "x", "fetched_at": 0, "work_key": "w"}
    base = {k: v for k, v in base.items() if k in TABLES["sources"].schema.names}
    sources, captures = {}, {}
    for clip in clips:
        about = {"kind": clip["kind"], "capture_id": clip["capture_id"], "name": clip["name"]}
        truth = source if clip["kind"] == "unreal" else {}
        sources[clip["source_id"]] = base | truth | about | {"source_id": clip["source_id"]}
        captures[clip["capture_id"]] = {
            "capture_id": clip["capture_id"], "kind": clip["kind"], "take": "t", "views": ["a"],
            "sync_method": "single", "work_key": "w",
            "gravity_down": None if clip["capture_id"] in unstated else GRAVITY,
        }  # fmt: skip
    videos = [{"clip_id": c, "video": b, "sha256": ids.sha256_bytes(b), "work_key": "w"} for c, b in bytes_of.items()]
    rows = {"sources": list(sources.values()), "captures": list(captures.values()), "clips": clips}
    lake.append("r1", rows | {"clip_videos": videos})
    return lake


def test_the_stage_labels_every_kept_clip_once(tmp_path: Path, body: Body, juggler: dict[str, Any]) -> None:
    footage = video.encode(juggler["frames"], Fraction(24))
    track = np.tile(np.float32([0, 0, 640, 480]), (FRAMES, 1))
    clips = [clip_row(track=track), juggler["clip"], clip_row(clip_id="c3", frames=2, track=track)]
    lake = lake_with(tmp_path, clips, source_row(body), {"c2": footage, "c1": b"-", "c3": b"-"})
    policy = Policy(min_frames=10)
    stage = PosesStage(lake.uri, PosesConfig())
    works = plan(lake, stage, policy).all()
    assert [w.payload.clip_ids for w in works] == [["c1"], ["c2"]]
    stage.setup()
    outcome = stage.run(works)
    outcome.check(works)
    assert not outcome.rejects
    lake.append("r2", dict(outcome.rows))
    truth, monocular = sorted(lake.read("poses"), key=lambda r: r["clip_id"])
    assert (truth["estimator"], monocular["estimator"]) == ("truth", "monocular mediapipe")
    assert truth["joints_3d"].shape == (FRAMES, 52, 3) and monocular["body_pose"].shape == (16, 21, 3)
    assert "mediapipe" not in truth["model_licence"].lower() and "Apache-2.0" in monocular["model_licence"]
    assert monocular["weight"] > 0.5 and truth["foot_skate"] is not None


def test_clips_with_truth_are_also_labelled_from_one_view_to_compare(
    tmp_path: Path, body: Body, juggler: dict[str, Any]
) -> None:
    count = min(FRAMES, len(juggler["frames"]))
    clip = clip_row(track=juggler["clip"]["track"][:count], frames=count, end_frame=5 + count)
    clip |= {"world_to_camera": clip["world_to_camera"][:count]}
    footage = {"c1": video.encode(juggler["frames"][:count], Fraction(24))}
    lake = lake_with(tmp_path, [clip], source_row(body), footage)
    stage = PosesStage(lake.uri, PosesConfig(compared=1.0))
    works = plan(lake, stage, Policy(min_frames=count)).all()
    stage.setup()
    outcome = stage.run(works)
    outcome.check(works)
    lake.append("r2", dict(outcome.rows))
    labels = {row["estimator"]: row for row in lake.read("poses")}
    assert labels.keys() == {"truth", "monocular mediapipe"} and labels["monocular mediapipe"]["foot_skate"] is None
    lake.append("r3", {"poses": [labels["truth"] | {"pose_id": "less", "weight": 0.1, "work_key": "other"}]})
    assert best_poses(lake, ["estimator"])["estimator"].to_pylist() == ["truth"]  # whatever weighs more


def test_work_is_known_by_content(tmp_path: Path, body: Body) -> None:
    """Calibrated views of one take are one work item. Its key depends on settings of the fit, not on the path of the
    model file."""
    rig = {"kind": "multiview", "capture_id": "p3", "track": np.zeros((FRAMES, 4), np.float32)}
    clips = [clip_row(clip_id=f"m{i}", source_id=f"s{i}", view=str(i), **rig) for i in range(3)]
    clips.append(clip_row(clip_id="m9", source_id="s9", view="9", **{**rig, "K": None}))
    lake = lake_with(tmp_path, clips, {}, {c["clip_id"]: b"-" for c in clips})
    policy, stage = Policy(min_frames=10), PosesStage(lake.uri, PosesConfig())
    works = plan(lake, stage, policy).all()
    assert [w.payload.clip_ids for w in works] == [["m9"], ["m0", "m1", "m2"]]
    from opendimo.model.body.mannequin import mannequin_file

    copy = tmp_path / "copy.npz"
    copy.write_bytes(mannequin_file().read_bytes())
    moved = plan(lake, PosesStage(lake.uri, PosesConfig(body=str(copy))), policy).all()
    changed = plan(lake, PosesStage(lake.uri, PosesConfig(fit=FitConfig(iterations=5))), policy).all()
    keys = [{w.key for w in some} for some in (works, moved, changed)]
    assert keys[0] == keys[1] and not keys[0] & keys[2]
