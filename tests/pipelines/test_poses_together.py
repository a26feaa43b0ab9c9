"""Tests of views that are labelled together, or singly where they do not agree; and of renders without true motion."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from opendimo.model.body.load import Body, load_body
from opendimo.pipelines.captions import stage as captions
from opendimo.pipelines.captions.stage import CaptionsConfig, CaptionsStage
from opendimo.pipelines.engine.stage import DataError
from opendimo.pipelines.engine.work_status import without_result
from opendimo.pipelines.pairs.stage import PairsConfig, gather
from opendimo.pipelines.poses.fit_config import FitConfig
from opendimo.pipelines.poses.landmarks import Landmarks
from opendimo.pipelines.poses.stage import PosesConfig, PosesStage, plan
from opendimo.pipelines.poses.together import label_views
from opendimo.pipelines.poses.view import view_of
from opendimo.pipelines.quality.policy import Policy
from opendimo.pipelines.quality.verdicts import verdicts
from opendimo.storage_schemas.lake.lake import Lake
from tests.pipelines.test_poses_labels import FRAMES, clip_row, lake_with, orbit, seen, source_row
from tests.pipelines.test_rigs_stage import camera, rig

POLICY = Policy(min_frames=10)
QUICK = FitConfig(iterations=15)
TRACK = np.tile(np.float32([0, 0, 640, 480]), (FRAMES, 1))


@pytest.fixture(scope="module")
def body() -> Body:
    return load_body()


@pytest.fixture(scope="module")
def world(body: Body) -> np.ndarray:
    return np.asarray(source_row(body)["truth_joints"][0, 5 : 5 + FRAMES])


def filmed(world: np.ndarray, count: int) -> tuple[list[dict[str, Any]], list[Landmarks]]:
    """Return the clips of static cameras around a person, and what is seen in them."""
    clips = [
        clip_row(world_to_camera=orbit(1, 1.6 * k), clip_id=f"c{k}", view=str(k), source_id=f"s{k}", track=TRACK)
        for k in range(count)
    ]
    return clips, [seen(None, view_of(clip).in_camera(world), clip, noise=1.0) for clip in clips]


def hide(landmarks: Landmarks, frames: slice) -> None:
    for array in (landmarks.body, landmarks.world, landmarks.body_found, landmarks.world_found):
        array[frames] = 0


def methods(found: list[Any]) -> list[str | None]:
    return [one and one[0] for one in found]


def test_views_that_agree_are_labelled_together(body: Body, world: np.ndarray) -> None:
    clips, landmarks = filmed(world, 2)
    found = label_views(landmarks, [view_of(c) for c in clips], body, QUICK)
    assert methods(found) == ["multiview", "multiview"]


def test_views_that_disagree_are_labelled_singly(body: Body, world: np.ndarray) -> None:
    """The cameras are those of other views, as if calibrations were exchanged."""
    clips, landmarks = filmed(world, 2)
    for k, other in ((0, 2.4), (1, 0.9)):
        clips[k]["world_to_camera"] = orbit(1, other)
        landmarks[k].body[..., 1] += 250 * k
    found = label_views(landmarks, [view_of(c) for c in clips], body, QUICK)
    assert methods(found) == ["monocular", "monocular"]
    for one in found:
        assert one is not None and one[1].valid.all() and one[1].weight > 0.5


def test_a_person_whom_one_view_at_a_time_sees_is_labelled_singly(body: Body, world: np.ndarray) -> None:
    clips, landmarks = filmed(world, 2)
    hide(landmarks[0], slice(8, None))
    hide(landmarks[1], slice(0, 6))  # both see the person in frames 6 and 7
    found = label_views(landmarks, [view_of(c) for c in clips], body, QUICK)
    assert methods(found) == ["monocular", "monocular"]
    assert [one[1].valid.sum() for one in found if one] == [8, 6]


def test_a_view_without_a_person_gets_the_common_label_or_none(body: Body, world: np.ndarray) -> None:
    clips, landmarks = filmed(world, 3)
    hide(landmarks[1], slice(None))
    views = [view_of(c) for c in clips]
    found = label_views(landmarks, views, body, QUICK)
    assert methods(found) == ["multiview"] * 3 and found[1] is not None and found[1][1].valid.all()
    assert methods(label_views(landmarks[:2], views[:2], body, QUICK)) == ["monocular", None]
    for one in landmarks:
        hide(one, slice(None))
    with pytest.raises(DataError, match="no two views agree"):
        label_views(landmarks, views, body, QUICK)


def of_lake(tmp_path: Path, clips: list[dict[str, Any]], source: dict[str, Any] | None = None) -> Lake:
    return lake_with(tmp_path, clips, source or {}, {clip["clip_id"]: b"-" for clip in clips})


def planned(lake: Lake) -> list[list[str]]:
    return [work.payload.clip_ids for work in plan(lake, PosesStage(lake.uri, PosesConfig()), POLICY).all()]


def test_views_of_a_render_without_true_motion_are_labelled_together(tmp_path: Path, body: Body) -> None:
    """Cameras of MultiCamVideo and of renders without bodies are exact and metric; true motion needs no other views."""
    clips = [clip_row(clip_id=f"c{k}", source_id=f"s{k}", view=str(k), track=TRACK) for k in range(3)]
    assert planned(of_lake(tmp_path / "without", clips)) == [["c0", "c1", "c2"]]
    assert planned(of_lake(tmp_path / "with", clips, source_row(body))) == [["c0"], ["c1"], ["c2"]]
    clips[2]["end_frame"] += 1  # another span
    assert planned(of_lake(tmp_path / "spans", clips)) == [["c0", "c1"], ["c2"]]


def test_the_stage_labels_renders_of_several_cameras_from_all_of_them(
    tmp_path: Path, body: Body, world: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    clips, landmarks = filmed(world, 3)
    lake = of_lake(tmp_path, clips)
    stage = PosesStage(lake.uri, PosesConfig(fit=QUICK))
    by_clip = {clip["clip_id"]: found for clip, found in zip(clips, landmarks, strict=True)}
    monkeypatch.setattr(stage, "_landmarks", lambda clip: by_clip[clip["clip_id"]])
    stage.setup()
    works = plan(lake, stage, POLICY).all()
    outcome = stage.run(works)
    outcome.check(works)
    assert {row["estimator"] for row in outcome.rows["poses"]} == {"multiview mediapipe"}
    for row, clip in zip(outcome.rows["poses"], clips, strict=True):
        off = np.linalg.norm(row["joints_3d"] - view_of(clip).in_camera(world), axis=-1)
        assert 1000 * off[:, [4, 5, 7, 8, 16, 17, 18, 19, 20, 21]].mean() < 25
    hide(by_clip["c0"], slice(None))
    hide(by_clip["c1"], slice(None))
    outcome = stage.run(works)
    outcome.check(works)
    (row,) = outcome.rows["poses"]
    assert (row["clip_id"], row["estimator"]) == ("c2", "monocular mediapipe") and not outcome.rejects
    assert not outcome.rejects and row["weight"] > 0.5
    lake.append("poses", dict(outcome.rows))
    assert not len(without_result(lake, "poses")["no_valid_frame"])


@pytest.fixture
def rig_lake(tmp_path: Path) -> Lake:
    """Three calibrated views of a rig."""
    about = {"kind": "multiview", "capture_id": "p3", "track": TRACK}
    clips = [clip_row(clip_id=f"c{k}", source_id=f"s{k}", view=str(k), **about) for k in range(3)]
    return of_lake(tmp_path, clips)


def measured(lake: Lake, run: str, *names: str) -> None:
    lake.append(run, {"rigs": [rig("p3", run, *(camera(str(k), name) for k, name in enumerate(names)))]})


def test_a_rig_whose_views_contradict_each_other_is_used_as_if_it_had_no_cameras(rig_lake: Lake) -> None:
    """Which camera is wrong is unknown, so clips are labelled and captioned singly, and not paired with each other."""
    poses, texts = PosesStage(rig_lake.uri, PosesConfig()), CaptionsStage(rig_lake.uri, CaptionsConfig())
    before = {work.key for work in plan(rig_lake, poses, POLICY).all()}
    captioned = {work.key for work in captions.plan(rig_lake, texts, POLICY).all()}
    measured(rig_lake, "one", "quarantined", "quarantined", "unchecked")
    assert verdicts(rig_lake, POLICY)["reason"].to_pylist() == [None] * 3
    works = plan(rig_lake, poses, POLICY).all()
    assert [work.payload.clip_ids for work in works] == [["c0"], ["c1"], ["c2"]]
    assert not any(work.payload.calibrated for work in works) and not before & {work.key for work in works}
    works = captions.plan(rig_lake, texts, POLICY).all()
    assert not any(work.payload.calibrated for work in works) and not captioned & {work.key for work in works}
    assert gather(rig_lake, PairsConfig("vae"), POLICY).captures["p3"]["sync_method"] == "single"

    measured(rig_lake, "two", "quarantined", "ok", "ok")
    assert verdicts(rig_lake, POLICY)["reason"].to_pylist() == ["camera_quarantined", None, None]
    assert planned(rig_lake) == [["c1", "c2"]]
    measured(rig_lake, "three", "ok", "ok", "ok")
    assert {work.key for work in plan(rig_lake, poses, POLICY).all()} == before
    assert {work.key for work in captions.plan(rig_lake, texts, POLICY).all()} == captioned


def test_a_camera_in_doubt_does_not_enter_the_label(
    rig_lake: Lake, world: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The label is that of a clip without a camera."""
    measured(rig_lake, "one", "quarantined", "quarantined", "quarantined")
    stage = PosesStage(rig_lake.uri, PosesConfig(fit=QUICK))
    views: list[Any] = []

    def landmarks(clip: dict[str, Any]) -> Landmarks:
        views.append(view_of(clip))
        return seen(None, view_of(clip_row(world_to_camera=orbit(1))).in_camera(world), clip_row(), noise=1.0)

    monkeypatch.setattr(stage, "_landmarks", landmarks)
    stage.setup()
    outcome = stage.run(plan(rig_lake, stage, POLICY).all())
    assert not outcome.rejects and {row["estimator"] for row in outcome.rows["poses"]} == {"monocular mediapipe"}
    assert not any(view.calibrated for view in views)
