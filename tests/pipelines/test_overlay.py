"""Tests of the overlay video and the recording for Rerun."""

import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from opendimo.model.body.load import load_body
from opendimo.pipelines.poses.overlay import SKIN, draw_body, draw_landmarks
from opendimo.pipelines.report.overlay import COLOURS, PAPER, Shown, draw_terms, find_clips, overlay_video, surface_of
from opendimo.pipelines.report.rerun_file import _in_world, write_recording
from opendimo.pipelines.report.timeline import lanes
from opendimo.storage_schemas.conventions import transform
from opendimo.storage_schemas.lake.lake import Lake
from opendimo.storage_schemas.media import video
from tests.pipelines.pose_files import FRAMES, SIZE, camera_of, known
from tests.pipelines.test_poses_labels import clip_row, lake_with, orbit

TERMS = [
    {"term": "pan_left", "speed": "slow", "start_frame": 0, "end_frame": 4, "confidence": 1.0},
    {"term": "dolly_in", "speed": "", "start_frame": 3, "end_frame": 6, "confidence": 1.0},
]


@pytest.fixture
def shown() -> Shown:
    """A person in front of a grey wall, labelled exactly, without a known camera."""
    motion = known(load_body(), 4.0)
    pixels = motion.joints @ camera_of(700).T
    pixels = np.concatenate([pixels[..., :2] / pixels[..., 2:], np.ones((FRAMES, 52, 1))], 2)
    pose = {"global_orient": motion.orient, "body_pose": motion.body, "hand_pose": motion.hands}
    pose |= {"transl": motion.transl, "betas": np.zeros(10), "joints_3d": motion.joints, "joints_2d": pixels}
    pose |= {"landmarks_2d": pixels}
    pose = {key: np.float32(value) for key, value in pose.items()}
    pose |= {"valid": [True] * 5 + [False], "hand_valid": np.ones((FRAMES, 2))}
    clip = clip_row(
        K=camera_of(700)[None].astype(np.float32), world_to_camera=None, frames=FRAMES, end_frame=5 + FRAMES
    )
    return Shown(clip | {"track": np.float32([[1, 1, 600, 470]] * FRAMES)}, pose, TERMS)


def lake_of(shown: Shown, tmp_path: Path) -> Lake:
    wall = np.full((FRAMES, SIZE[1], SIZE[0], 3), 90, np.uint8)
    return lake_with(tmp_path, [shown.clip | {"kind": "internet"}], {}, {"c1": video.encode(wall, Fraction(30))})


def test_the_surface_lies_where_the_camera_sees_it(shown: Shown) -> None:
    body = load_body()
    surface = surface_of(body, shown.pose or {}, shown.clip)
    joints = (shown.pose or {})["joints_2d"][:, :22, :2]
    low, high = surface.min(1), surface.max(1)
    assert (joints >= low[:, None]).all() and (joints <= high[:, None]).all()
    image = draw_body(np.zeros((SIZE[1], SIZE[0], 3), np.uint8), surface[0], body.faces.numpy())
    inside = joints[0].astype(int)
    assert (image[inside[:, 1], inside[:, 0]] == (0.4 * np.array(SKIN)).astype(np.uint8)).all()
    assert not image[:, : int(low[0, 0]) - 2].any()


def test_landmarks_that_were_seen_are_marked() -> None:
    image = draw_landmarks(np.zeros((100, 100, 3), np.uint8), np.array([[30.2, 40.7, 0.5], [70, 70, 0.0]]))
    assert image[40, 30].any() and not image[60:, 60:].any()


def test_terms_are_drawn_over_their_frames_with_the_present_one() -> None:
    strip = draw_terms(lanes(TERMS, FRAMES), FRAMES, 1, 600)
    assert strip.shape == (36, 600, 3)
    assert tuple(strip[4, 380]) == COLOURS["turn"] and tuple(strip[4, 450]) == (PAPER,) * 3
    assert tuple(strip[22, 500]) == COLOURS["travel"] and tuple(strip[22, 250]) == (PAPER,) * 3
    assert (strip[:, 150] == 255).all()


def test_the_video_has_all_frames_above_the_terms(shown: Shown, tmp_path: Path) -> None:
    made = overlay_video(lake_of(shown, tmp_path), shown, load_body())
    frames = list(video.frames(made))
    assert len(frames) == FRAMES and frames[0].shape == (SIZE[1] + 36, SIZE[0], 3)
    x, y = ((shown.pose or {})["joints_2d"][:, 0, :2]).mean(0).astype(int)
    middle = np.stack(frames)[:, y + 12 : y + 14, x : x + 2].astype(int).reshape(FRAMES, -1, 3)
    assert (np.abs(middle[:5] - 90).max((1, 2)) > 20).all()
    assert np.abs(middle[5] - 90).max() < 12  # the last frame's label is not valid, so it is not drawn


def test_clips_are_found_by_clip_and_by_source(shown: Shown, tmp_path: Path) -> None:
    lake = lake_of(shown, tmp_path)
    for name in ("c1", "take", "s1", "x"):  # x: the file of the source
        (found,) = find_clips(lake, name)
        assert found.clip["clip_id"] == "c1" and found.pose is None and found.terms == []
    with pytest.raises(ValueError, match=r"nobody is no clip or source of .*; clips are: take"):
        find_clips(lake, "nobody")


def test_joints_go_back_to_the_world() -> None:
    points = np.random.default_rng(0).normal(size=(12, 52, 3))
    assert np.abs(_in_world(transform(points, orbit()), orbit()) - points).max() < 1e-6


def test_a_recording_has_camera_joints_and_video_on_one_time_line(shown: Shown, tmp_path: Path) -> None:
    moving = Shown(shown.clip | {"world_to_camera": orbit(FRAMES)}, shown.pose, TERMS)
    write_recording(tmp_path / "clip.rrd", lake_of(moving, tmp_path), moving)
    tool = [sys.executable, "-m", "rerun", "rrd", "print", "-vv", str(tmp_path / "clip.rrd")]
    listing = subprocess.run(tool, capture_output=True, text=True, check=True, timeout=60).stdout
    for entity in (
        "camera",
        "camera/image",
        "camera/image/joints",
        "camera/image/landmarks",
        "body/joints",
        "body/bones",
    ):
        assert f"/world/{entity}" in listing, entity
    for part in (
        "VideoFrameReference",
        "AssetVideo",
        "Pinhole",
        "Transform3D",
        "LineStrips3D",
        "/camera_terms",
        "frame",
    ):
        assert part in listing, part
