"""The person in a driving video gets the same label as in a training clip of that video."""

from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from opendimo.model.driving.crops import hand_squares
from opendimo.model.driving.person import driving_of
from opendimo.model.encoder.config import ENCODERS
from opendimo.pipelines import sources
from opendimo.pipelines.clips import stage as clips
from opendimo.pipelines.clips.cut import ClipsConfig
from opendimo.pipelines.generation.driving import find_person, read_video
from opendimo.pipelines.poses import stage as poses
from opendimo.pipelines.poses.landmarker import Landmarker
from opendimo.pipelines.poses.landmarks import Landmarks
from opendimo.pipelines.quality.policy import Policy
from opendimo.pipelines.sources import SourcesConfig
from opendimo.storage_schemas.lake.lake import Lake
from opendimo.storage_schemas.media.video import decode, encode

FRAMES, WINDOW = 51, 34


@pytest.fixture(scope="module")
def dance(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A video of 1.5 s of a dancing woman with raised hands, 1280 x 720."""
    path = tmp_path_factory.mktemp("dance") / "dance.mp4"
    path.write_bytes(encode(decode(data / "internet" / "dance_balloon_static.mp4", stop=FRAMES), Fraction(30)))
    return path


def label(video: Path, lake: Lake) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the clip of a video and its pose label, computed by the stages."""
    ingest = sources.SourcesStage(lake.uri, SourcesConfig())
    cut, fit = clips.ClipsStage(lake.uri, ClipsConfig()), poses.PosesStage(lake.uri, poses.PosesConfig())
    for stage, plan in (
        (ingest, lambda: sources.plan(lake, ingest, "internet", str(video.parent))),
        (cut, lambda: clips.plan(lake, cut)),
        (fit, lambda: poses.plan(lake, fit, Policy())),
    ):
        stage.setup()
        lake.append(stage.name, dict(stage.run(plan().all()).rows))
    [clip], [pose] = lake.read("clips"), lake.read("poses")
    return clip, pose


def test_hands_are_cropped_as_from_the_label_of_a_clip(dance: Path, tmp_path: Path) -> None:
    """Sides agree to 10 %, centres to 10 % of the side, for hands visible in both in at least 10 frames of a window."""
    clip, pose = label(dance, Lake(tmp_path))
    frames, fps = read_video(dance, WINDOW)
    person = find_person(frames, float(fps))
    trained = hand_squares(pose["joints_2d"][:WINDOW], pose["hand_valid"][:WINDOW], clip["height"], clip["width"])
    driven = hand_squares(person["joints_2d"], person["hand_valid"], *frames.shape[1:3])
    scale = frames.shape[1] / clip["height"]
    assert scale == 1.5
    for ours_by_frame, theirs_by_frame in zip(driven, trained, strict=True):
        both = [frame for frame in theirs_by_frame if frame in ours_by_frame]
        assert len(both) >= 10
        ours, theirs = ours_by_frame[both[0]], theirs_by_frame[both[0]]
        assert 0.9 < ours.side / (scale * theirs.side) < 1.1
        centres = [
            [np.add(squares[frame][:2], squares[frame].side / 2) for frame in both]
            for squares in (ours_by_frame, theirs_by_frame)
        ]
        off = np.linalg.norm(np.subtract(centres[0], np.multiply(centres[1], scale)), axis=1)
        assert np.median(off) < 0.1 * ours.side


def test_without_landmarks_nothing_but_the_person_is_known(dance: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Landmarker, "detect", lambda self, frames, track: Landmarks.nothing(len(frames)))
    frames, fps = read_video(dance, 5)
    person = find_person(frames, float(fps))
    assert np.isfinite(person["track"]).all() and not person["hand_valid"].any() and not person["valid"].any()
    driving = driving_of(frames, frames.shape[2:0:-1], cast(Any, person), ENCODERS["tiny"], (64, 64))
    assert not driving.hand_ok.any() and not driving.hands_pose_ok.any()
    with pytest.raises(ValueError, match="no person was found in any frame of the track"):
        find_person(frames, float(fps), poses=True)
