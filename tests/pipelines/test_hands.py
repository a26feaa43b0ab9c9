"""Hands are measured as hands: on real, drawn and handless videos, and whose they are."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from opendimo.pipelines.engine.loop import run_stage
from opendimo.pipelines.engine.rejects import rejects
from opendimo.pipelines.hands.stage import HandsConfig, HandsStage, of_person, plan
from opendimo.pipelines.progress.status import _stage_account
from opendimo.pipelines.quality.policy import Policy
from opendimo.pipelines.quality.verdicts import kept_clips
from opendimo.storage_schemas.lake.lake import Lake
from opendimo.storage_schemas.media import video
from tests.rows import clip, clip_video

CUPS = "internet/cups_hands_static.mp4"
FPS = Fraction(2)  # one frame per look


def film(path: Path, start: int = 0, seconds: int = 2) -> np.ndarray:
    """Return `seconds` of a video from frame `start` on, at two frames per second, [T, 480, W, 3]."""
    info = video.probe(path)
    step = round(info.fps / FPS)
    size = round(info.width * 240 / info.height) * 2, 480
    return video.decode(path, start=start, stop=start + 2 * seconds * step, step=step, size=size)


def measured(lake: Lake, films: dict[str, np.ndarray], config: HandsConfig | None = None, **facts: object) -> dict:
    """Store clips, run the stage on them, and return the share by clip."""
    for name, frames in films.items():
        nobody = np.full((len(frames), 4), np.nan, np.float32)
        numbers = {"frames": len(frames), "fps_num": 2, "fps_den": 1, "people": 1.0, "person_height": 0.6}
        light = {"exposure": 0.5, "sharpness": 100.0}
        row = clip(name, **{**numbers, **light, "track": nobody, "tracks": None, "main_person": None, **facts})
        lake.append(name, {"clips": [row], "clip_videos": [clip_video(name, video.encode(frames, FPS))]})
    stage = HandsStage(lake.uri, config)
    stage.setup()
    assert run_stage(lake, stage, plan(lake, stage)).done == len(films)
    return {row["clip_id"]: row["hands_visible"] for row in lake.read("hands")}


def test_hands_in_view_are_seen_with_and_without_a_body(data: Path, tmp_path: Path) -> None:
    """The cups show two hands and no face; the capsules of the render have no hands, and a drawn skeleton is none."""
    films = {
        "cups": film(data / CUPS, 120, 4),
        "drawn": film(data / "internet/driving_pose_dwpose.mp4"),
        "capsules": film(data / "ue5/mini_bedlam2/mp4/seq_000007.mp4"),
    }
    shares = measured(Lake(tmp_path), films)
    assert shares["cups"] > 0.8 and shares["drawn"] == shares["capsules"] == 0


def test_small_hands_are_found_near_a_body_and_count_from_a_size_on(data: Path, tmp_path: Path) -> None:
    """A man of 440 pixels has hands of about 30."""
    frames = film(data / "internet/juggle_static_fullbody.mp4")
    body = np.tile(np.float32([350, 20, 600, 470]), (len(frames), 1))
    people = {"track": body, "tracks": body[None], "main_person": 0}
    assert measured(Lake(tmp_path / "a"), {"juggler": frames}, **people)["juggler"] >= 0.75
    assert measured(Lake(tmp_path / "b"), {"juggler": frames}, HandsConfig(min_pixels=60), **people)["juggler"] == 0


def test_hands_of_others_do_not_count(data: Path, tmp_path: Path) -> None:
    frames = film(data / CUPS, 120)
    left, right = np.float32([0, 0, 60, 480]), np.float32([60, 0, frames.shape[2], 480])
    tracks = np.stack([np.tile(box, (len(frames), 1)) for box in (left, right)])
    lake = Lake(tmp_path)
    assert measured(lake, {"cups": frames}, track=tracks[0], tracks=tracks, main_person=0) == {"cups": 0.0}


def test_a_hand_belongs_to_whose_box_it_is_in() -> None:
    hands = np.tile(np.float32([[[50, 50]], [[150, 50]], [[250, 50]], [[90, 50]]]), (1, 21, 1))
    main, other = np.float32([0, 0, 100, 100]), np.float32([80, 0, 200, 100])
    assert of_person(hands, main, other[None]).tolist() == [True, False, True, True]
    gone = np.full(4, np.nan, np.float32)
    assert of_person(hands, gone, np.stack([other, gone])).tolist() == [True, False, True, False]


def test_a_policy_acts_on_the_measurement(tmp_path: Path) -> None:
    """Clips are kept until they are measured."""
    lake = Lake(tmp_path)
    grey = np.full((4, 64, 64, 3), 128, np.uint8)
    policy, strict = Policy(min_frames=1), Policy(min_frames=1, min_hands_visible=0.5)
    assert measured(lake, {"a": grey}) == {"a": 0.0}
    lake.append("more", {"clips": [clip("b", people=1.0, person_height=0.6, exposure=0.5)]})
    assert kept_clips(lake, policy)["clip_id"].to_pylist() == ["a", "b"]
    assert kept_clips(lake, strict)["clip_id"].to_pylist() == ["b"]


@pytest.mark.parametrize("again", [HandsConfig(), HandsConfig(min_pixels=10)])
def test_the_account_is_exact_when_clips_are_measured_again(again: HandsConfig, tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    grey = np.full((4, 64, 64, 3), 128, np.uint8)
    measured(lake, {"a": grey})
    stage = HandsStage(lake.uri, again)
    stage.setup()
    run_stage(lake, stage, plan(lake, stage))
    account = _stage_account(lake, "hands", rejects(lake))
    assert (account.inputs, account.done, lake.dataset("hands").count_rows()) == (1, 1, 1)
