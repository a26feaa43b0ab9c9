"""Tests of importing results into a lake: matching by file and frame, checking by landmarks, the choice by quality."""

import pickle
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from opendimo.model.body.load import Body, load_body
from opendimo.pipelines.engine.revisions import best_poses
from opendimo.pipelines.engine.stage import DataError
from opendimo.pipelines.poses.fit_config import FitConfig
from opendimo.pipelines.poses.imports.formats import FORMATS
from opendimo.pipelines.poses.imports.label import imported_label
from opendimo.pipelines.poses.imports.result import Camera, Person
from opendimo.pipelines.poses.imports.stage import ImportConfig, ImportStage, match, plan
from opendimo.pipelines.poses.landmarks import Landmarks
from opendimo.pipelines.poses.oneview import one_view_label
from opendimo.pipelines.poses.view import View, view_of
from opendimo.pipelines.quality.policy import Policy
from opendimo.storage_schemas.media import video
from tests.pipelines.pose_files import SIZE, camera_of, known, wham
from tests.pipelines.test_poses_labels import clip_row, juggler, lake_with, seen

assert juggler  # a fixture
FIRST, LENGTH = 20, 12


@pytest.fixture(scope="module")
def body() -> Body:
    return load_body()


def view(fps: float = 30.0) -> View:
    return View(*SIZE, fps, np.broadcast_to(camera_of(700), (LENGTH, 3, 3)), None, np.zeros(0))


def person(body: Body, frames: int = 60, fps: float | None = None) -> tuple[Person, np.ndarray]:
    """Return a result from frame 0 on, and the true joints in the clip [FIRST, FIRST + LENGTH)."""
    m = known(body, 4.0, frames)
    camera = Camera(np.full(frames, 700.0), np.tile(np.array(SIZE) / 2, (frames, 1)), SIZE)
    return Person("p", m.frames, m.orient, m.body, m.hands, m.transl, False, None, camera, fps), m.joints


def landmarks_of(joints: np.ndarray) -> Landmarks:
    clip = clip_row(frames=len(joints), K=camera_of(700)[None], world_to_camera=None)
    return seen(None, joints, clip, noise=1.0)


def labelled(people: list[Any], joints: np.ndarray, body: Body, fps: float = 30.0) -> Any:
    return imported_label(people, FIRST, view(fps), landmarks_of(joints), body, FitConfig())


def test_frames_of_the_clip_are_taken(body: Body) -> None:
    result, joints = person(body)
    true = joints[FIRST : FIRST + LENGTH]
    label = labelled([result], true, body)
    assert np.abs(label.motion.joints - true).max() < 1e-4 and label.valid.all()
    assert label.reprojection < 0.02 and label.weight > 0.5
    assert label.landmarks_2d.shape == (LENGTH, 52, 3)
    assert not label.hand_valid.any()  # no hands were seen, so the result's are not confirmed


def test_a_higher_frame_rate_of_the_result_is_followed(body: Body) -> None:
    result, joints = person(body, frames=80, fps=60.0)
    label = labelled([result], joints[2 * FIRST : 2 * FIRST + 2 * LENGTH : 2], body)
    assert np.abs(label.motion.joints - joints[2 * FIRST : 2 * FIRST + 2 * LENGTH : 2]).max() < 1e-4


def test_frames_that_the_result_lacks_are_not_valid(body: Body) -> None:
    result, joints = person(body, frames=FIRST + 7)
    padded = np.concatenate([joints, np.repeat(joints[-1:], 5, 0)])[FIRST : FIRST + LENGTH]
    assert labelled([result], padded, body).valid.tolist() == [True] * 7 + [False] * 5


def test_the_person_of_the_clip_is_taken_of_several(body: Body) -> None:
    result, joints = person(body)
    beside = Person(**{**vars(result), "position": result.position + np.array([1.0, 0, 0])})
    label = labelled([beside, result], joints[FIRST : FIRST + LENGTH], body)
    assert np.abs(label.motion.joints - joints[FIRST : FIRST + LENGTH]).max() < 1e-4
    with pytest.raises(DataError, match="% of the person's height off the clip's landmarks"):
        labelled([beside], joints[FIRST : FIRST + LENGTH], body)


def test_a_result_that_ends_before_the_clip_is_refused(body: Body) -> None:
    result, joints = person(body, frames=10)
    with pytest.raises(DataError, match="ends at frame 9, before frame 20"):
        labelled([result], np.repeat(joints[:1], LENGTH, 0), body)


def test_a_result_that_nothing_confirms_has_no_weight(body: Body) -> None:
    result, _ = person(body)
    label = imported_label([result], FIRST, view(), Landmarks.nothing(LENGTH), body, FitConfig())
    assert label.weight == 0 and not label.valid.any()


def test_videos_are_matched_by_the_name_of_file_or_folder(tmp_path: Path, body: Body) -> None:
    clips = [clip_row(clip_id=f"c{i}", source_id=f"s{i}", capture_id=f"p{i}", name=n, kind="internet")
             for i, n in enumerate(("Dance.mp4", "walk", "twice", "Twice"))]  # fmt: skip
    lake = lake_with(tmp_path, clips, {}, {})
    for name in ("dance", "walk", "twice", "unknown"):
        (tmp_path / "out" / name).mkdir(parents=True)
        wham(tmp_path / "out" / name, known(body, 4.0), 800.0)
    found = match(lake, tmp_path / "out", FORMATS["wham"])
    assert {unit.path.parent.name: ids for unit, ids in found.matched.items()} == {"dance": ["s0"], "walk": ["s1"]}
    assert [unit.path.parent.name for unit in found.ambiguous] == ["twice"]
    assert [unit.path.parent.name for unit in found.unmatched] == ["unknown"]
    summary = found.summary("wham").splitlines()
    assert summary[0] == "4 results of wham: 2 match a video of the lake"
    assert "1 do not, because no video has their name" in summary[1] and "several videos do" in summary[2]


def test_imports_are_stored_once_and_chosen_by_quality(tmp_path: Path, body: Body, juggler: dict[str, Any]) -> None:
    """A result equal to the lake's own fit is stored beside it; a hostile file is a reject that names the call."""
    clip = juggler["clip"] | {"name": "juggle"}
    lake = lake_with(tmp_path, [clip], {}, {"c2": video.encode(juggler["frames"], Fraction(24))})
    own = one_view_label(juggler["landmarks"], view_of(clip), body, FitConfig()).motion
    n, K = len(own.transl), view_of(clip).K
    tensors = {"global_orient": own.global_orient, "body_pose": own.body_pose.reshape(n, 63), "transl": own.transl}
    tensors |= {"betas": np.tile(own.betas, (n, 1))}
    (tmp_path / "out" / "juggle").mkdir(parents=True)
    whole = {
        "smpl_params_incam": {k: torch.tensor(np.float32(v)) for k, v in tensors.items()},
        "K_fullimg": torch.tensor(K),
    }
    torch.save(whole, tmp_path / "out" / "juggle" / "hmr4d_results.pt")
    stage = ImportStage(lake.uri, ImportConfig(format="gvhmr"))
    planned, left = plan(lake, stage, str(tmp_path / "out"), Policy(min_frames=10))
    stage.setup()
    outcome = stage.run(planned.all())
    assert not outcome.rejects and left == {}
    lake.append("r2", dict(outcome.rows))
    (row,) = lake.read("poses")
    assert row["estimator"] == "imported gvhmr" and "non-commercial" in row["model_licence"]
    assert row["reprojection"] < 0.02 and row["weight"] > 0.5
    assert np.abs(row["joints_3d"][:, :22] - own.joints[:, :22]).max() < 1e-3  # GVHMR estimates no hands
    assert plan(lake, stage, str(tmp_path / "out"), Policy(min_frames=10))[0].keys.to_pylist() == [row["work_key"]]
    lake.append("r3", {"poses": [row | {"pose_id": "other", "estimator": "monocular mediapipe", "weight": 0.1}]})
    assert best_poses(lake, ["estimator"])["estimator"].to_pylist() == ["imported gvhmr"]

    hostile = pickle.dumps({"smpl_params_incam": _Call()})
    (tmp_path / "out" / "juggle" / "hmr4d_results.pt").write_bytes(hostile)
    (reject,) = stage.run(plan(lake, stage, str(tmp_path / "out"), Policy(min_frames=10))[0].all()).rejects
    assert reject.error_class == "data" and "refused: the file calls builtins.eval" in reject.message


class _Call:
    def __reduce__(self) -> Any:
        return eval, ("1",)
