"""Tests of the captions stage on a small lake: choice of estimator, stored rows, work keys."""

import json

import numpy as np
import pytest

from opendimo.pipelines.captions.qwen import QwenLocal
from opendimo.pipelines.captions.stage import CaptionsConfig, CaptionsStage, plan
from opendimo.pipelines.quality.policy import Policy
from tests.pipelines.caption_lake import FRAMES, HEIGHT, WIDTH, cameras, clip_row, make_lake, pose_row

NO_CAMERAS, STANDS, WALKS, SLAM = "a", "b", "c", "d"


@pytest.fixture(scope="module")
def lake(tmp_path_factory):
    """Four clips with the same video: no cameras; a camera that trucks; the same with a walking person; SLAM."""
    K = np.tile(np.float32([[200, 0, WIDTH / 2], [0, 200, HEIGHT / 2], [0, 0, 1]]), (FRAMES, 1, 1))
    truck = {"world_to_camera": cameras(right=1.5), "K": K, "metric": True, "kind": "unreal"}
    rows = [
        clip_row(NO_CAMERAS),
        clip_row(STANDS, **truck),
        clip_row(WALKS, **truck),
        clip_row(SLAM, **(truck | {"metric": False})),
        clip_row("e", people=3.0),
    ]
    lake = make_lake(tmp_path_factory.mktemp("captions") / "lake", rows)
    standing = np.stack([np.linspace(0.5, -1, FRAMES), np.zeros(FRAMES), np.full(FRAMES, 4)], axis=1)
    walking = np.tile([0.0, 0, 4], (FRAMES, 1))
    lake.append("poses", {"poses": [pose_row(STANDS, standing), pose_row(WALKS, walking)]})
    return lake


def captions(lake, config=None):
    stage = CaptionsStage(lake.uri, config or CaptionsConfig())
    stage.setup()
    batch = plan(lake, stage, Policy()).all()
    outcome = stage.run(batch)
    outcome.check(batch)
    assert not outcome.rejects
    return {row["clip_id"]: row for row in outcome.rows["captions"]}


@pytest.fixture(scope="module")
def rows(lake):
    return captions(lake)


def names(row):
    return [t["term"] for t in row["camera_terms"]]


def test_only_kept_clips_are_captioned(rows):
    assert sorted(rows) == [NO_CAMERAS, STANDS, WALKS, SLAM]


def test_known_cameras_speak_first(rows):
    assert rows[STANDS]["captioner"] == "geometry"
    assert names(rows[STANDS]) == ["truck_right"]
    assert rows[STANDS]["text"] == rows[STANDS]["camera_sentence"] == "The camera moves to the right."


def test_the_pose_label_tells_a_walking_subject(rows):
    assert names(rows[WALKS]) == ["follow"]
    assert rows[WALKS]["agreement"] is None  # `image_motion` cannot confirm `follow`


@pytest.mark.parametrize("clip", [NO_CAMERAS, SLAM])
def test_the_picture_speaks_where_no_metric_cameras_are(rows, clip):
    assert rows[clip]["captioner"] == "image_motion"
    assert names(rows[clip]) == ["pan_right"]
    assert rows[clip]["agreement"] is None


def test_two_witnesses_are_compared(rows):
    assert rows[STANDS]["agreement"] == 1.0  # a truck looks like a pan
    evidence = json.loads(rows[STANDS]["evidence"])
    assert evidence["geometry"]["net_metres"]["right"] == pytest.approx(1.5, abs=1e-3)
    assert evidence["image_motion"]["terms"] == ["pan_right"]


def test_rows_fit_the_table(lake, rows):
    lake.append("captions", {"captions": list(rows.values())})
    stored = {row["clip_id"]: row for row in lake.read("captions")}
    assert stored[STANDS]["camera_terms"] == rows[STANDS]["camera_terms"]
    assert stored[STANDS]["camera_terms"][0]["end_frame"] == FRAMES


def test_the_second_witness_can_stay_at_home(lake):
    row = captions(lake, CaptionsConfig(second_witness=False))[STANDS]
    assert row["agreement"] is None
    assert list(json.loads(row["evidence"])) == ["geometry"]


def test_without_a_pose_label_the_box_places_the_person(tmp_path):
    row = clip_row("x", world_to_camera=cameras(right=1.5), metric=True)
    evidence = json.loads(captions(make_lake(tmp_path / "lake", [row]))["x"]["evidence"])
    depth = 1.2 * WIDTH * 1.7 / 60  # assumed focal length, 1.7 m, a box of 60 pixels
    assert evidence["geometry"]["subject_distance"] == pytest.approx(depth, rel=0.02)


def test_a_still_rig_is_static_whatever_the_picture_does(tmp_path):
    row = clip_row("x", world_to_camera=cameras(right=0), metric=True)
    told = captions(make_lake(tmp_path / "lake", [row]))["x"]
    assert told["text"] == "The camera is static."
    assert told["agreement"] == 0.0


def test_a_broken_clip_is_rejected_and_the_others_are_done(tmp_path):
    lake = make_lake(tmp_path / "lake", [clip_row("x"), clip_row("y")])
    bad = np.full((FRAMES, 3, 4), np.nan, dtype=np.float32)
    video = {"clip_id": "z", "video": b"no video", "sha256": "0", "work_key": "z"}
    lake.append("more", {"clips": [clip_row("z"), clip_row("w", world_to_camera=bad, metric=True)], "clip_videos": [
        video, video | {"clip_id": "w"}]})  # fmt: skip
    stage = CaptionsStage(lake.uri, CaptionsConfig())
    batch = plan(lake, stage, Policy()).all()
    outcome = stage.run(batch)
    outcome.check(batch)
    assert len(outcome.done) == 2
    assert [(r.name, r.error_class) for r in outcome.rejects] == [("w", "data"), ("z", "data")]
    assert "NaN" in outcome.rejects[0].message


def test_work_keys_follow_what_decides_the_answer(tmp_path):
    lake = make_lake(tmp_path / "lake", [clip_row("x"), clip_row("y", world_to_camera=cameras(1.0), metric=True)])

    def keys(config):
        return [work.key for work in plan(lake, CaptionsStage(lake.uri, config), Policy()).all()]

    plain = keys(CaptionsConfig())
    assert plain == keys(CaptionsConfig())
    assert not set(plain) & set(keys(CaptionsConfig(vlm=QwenLocal("hub/model", device="cpu"))))
    cpu, gpu = (keys(CaptionsConfig(vlm=QwenLocal("hub/model", device=d))) for d in ("cpu", "cuda"))
    assert cpu == gpu
    lake.append("poses", {"poses": [pose_row("x", np.ones((FRAMES, 3))), pose_row("y", np.ones((FRAMES, 3)))]})
    later = keys(CaptionsConfig())
    assert later[0] == plain[0]  # without metric cameras the position of the subject is not used
    assert later[1] != plain[1]
