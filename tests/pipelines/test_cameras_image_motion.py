"""Tests of `image_motion`: virtual cameras with exact labels, renders, static cameras and blank walls."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from opendimo.pipelines.cameras.background import track_background
from opendimo.pipelines.cameras.image_motion import image_motion
from opendimo.pipelines.cameras.terms import words
from opendimo.pipelines.cameras.turning import turn_and_zoom
from opendimo.storage_schemas.media.video import frames
from tests.pipelines.known_cameras import KnownClip, studio_clips, unreal_clips, virtual_clips


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    yield
    cv2.setNumThreads(before)


def scores(clips: list[KnownClip]) -> tuple[float, float, list[str]]:
    """Return the precision of the terms told from the picture, their macro F1, and the still clips called moving."""
    told = [(clip, words(image_motion(clip.frames, clip.fps, clip.track).terms)) for clip in clips]
    said = sum(len(terms) for _, terms in told)
    right = sum(len(terms & clip.terms) for clip, terms in told)
    each = []
    for word in sorted({word for clip in clips for word in clip.terms}):
        both = sum(word in terms and word in clip.terms for clip, terms in told)
        either = sum((word in terms) + (word in clip.terms) for clip, terms in told)
        each.append(2 * both / either)
    stirred = [clip.name for clip, terms in told if clip.terms == {"static"} and terms != {"static"}]
    return right / said, float(np.mean(each)), stirred


@pytest.mark.slow
def test_terms_from_the_picture_are_those_of_the_known_cameras(data: Path):
    precision, macro_f1, stirred = scores([*unreal_clips(data), *virtual_clips(data)])
    assert precision >= 0.95
    assert macro_f1 >= 0.75
    assert stirred == []


@pytest.mark.slow
def test_moves_made_in_the_studio_are_named():
    precision, macro_f1, stirred = scores(list(studio_clips()))
    assert precision >= 0.95
    assert macro_f1 >= 0.75
    assert stirred == []


def test_the_zoom_is_measured(data: Path):
    folder = data / "internet/virtual_camera"
    per_frame = json.loads((folder / "virtual_camera.json").read_text())["zoom_in.mp4"]["per_frame"]
    truth = per_frame[-1]["fx_px"] / per_frame[0]["fx_px"]
    motion = image_motion(frames(folder / "zoom_in.mp4"), 24.0)
    assert motion.evidence["zoom_factor"] == pytest.approx(truth, rel=0.02)


def test_a_known_focal_length_makes_the_angles_true(data: Path):
    folder = data / "internet/virtual_camera"
    label = json.loads((folder / "virtual_camera.json").read_text())["pan_right.mp4"]
    focal = label["per_frame"][0]["fx_px"] / label["width"]
    motion = image_motion(frames(folder / "pan_right.mp4"), 24.0, focal_over_width=focal)
    assert motion.evidence["net_degrees"]["yaw"] == pytest.approx(12, abs=0.3)


@pytest.mark.parametrize(
    ("sequence", "expected"),
    [("1/mp4/seq_000003", "truck_right"), ("2/mp4/seq_000000", "pan_right"), ("1/mp4/seq_000001", "dolly_in")],
)
def test_travel_is_told_from_turns_by_parallax(data: Path, sequence: str, expected: str):
    """Without a box of the person, and without the focal length."""
    motion = image_motion(frames(data / f"ue5/mini_bedlam{sequence}.mp4"), 30.0)
    assert words(motion.terms) == {expected}


@pytest.mark.parametrize("camera", ["cam01", "cam03"])
def test_a_tripod_beside_a_moving_person_is_static(data: Path, camera: str):
    video = frames(data / f"multiview/balance_1person_4cam/{camera}.mp4")
    assert words(image_motion((f for i, f in enumerate(video) if i < 60), 60.0).terms) == {"static"}


def texture(height: int = 240, width: int = 320) -> np.ndarray:
    noise = np.random.default_rng(0).integers(0, 255, (height // 4, width // 4, 3), dtype=np.uint8)
    return cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)


def test_a_person_who_moves_does_not_move_the_camera():
    """A patch that covers most of the image moves right; the box marks it as the person."""
    ground, patch = texture(), texture(220, 180)[::-1]
    clip, track = [], []
    for i in range(30):
        frame, x = ground.copy(), 10 + 4 * i
        frame[10:230, x : x + 180] = patch
        clip.append(frame)
        track.append([x, 10, x + 180, 230])
    assert words(image_motion(clip, 25.0, np.array(track, dtype=float)).terms) == {"static"}
    assert words(image_motion(clip, 25.0).terms) != {"static"}  # without the box it counts as camera motion


def test_a_blank_wall_tells_nothing():
    motion = image_motion(np.full((20, 120, 160, 3), 200, dtype=np.uint8), 25.0)
    assert motion.terms == ()
    assert "too little background" in motion.evidence["note"]


def test_one_frame_tells_nothing():
    assert image_motion([texture()], 25.0).terms == ()


def seen_turning(turn: list[float], zoom: float, rays: np.ndarray) -> np.ndarray:
    """Return what `turn_and_zoom` measures for a camera of focal length 256 that rotates (about x, y, z) and zooms."""
    turned = rays @ Rotation.from_rotvec(turn).inv().as_matrix().T  # points rotate opposite to the camera
    start, end = (f * r[:, :2] / r[:, 2:] + [159.5, 119.5] for f, r in ((256, rays), (256 * zoom, turned)))
    step, residual = turn_and_zoom(start, end, 320, 240, focal_over_width=0.8)
    assert residual < 0.05
    return step


@pytest.mark.parametrize(
    ("turn", "zoom", "expected"),
    [
        ([0, 0.03, 0], 1, [0.03, 0, 0, 0]),  # about y, which points down: to the right
        ([0.03, 0, 0], 1, [0, 0.03, 0, 0]),  # about x: up
        ([0, 0, 0.03], 1, [0, 0, 0.03, 0]),  # about z: clockwise
        ([0, 0, 0], 1.05, [0, 0, 0, np.log(1.05)]),
        ([0.01, -0.02, -0.01], 0.98, [-0.02, 0.01, -0.01, np.log(0.98)]),
    ],
)
def test_turn_and_zoom_are_measured(turn, zoom, expected):
    rays = np.random.default_rng(1).uniform([-0.5, -0.4, 1], [0.5, 0.4, 1], (120, 3))
    assert seen_turning(turn, zoom, rays) == pytest.approx(expected, abs=4e-4)


def test_a_pan_over_the_ground_alone_is_no_roll():
    """Perspective lowers one side of the ground and lifts the other, which a similarity would report as a roll."""
    ground = np.random.default_rng(1).uniform([-0.5, 0.2, 1], [0.5, 0.4, 1], (120, 3))
    assert seen_turning([0, 0.026, 0], 1, ground) == pytest.approx([0.026, 0, 0, 0], abs=2e-4)


def test_corners_keep_out_of_the_box():
    corners = track_background([texture()], 25.0, np.array([[100.0, 60, 200, 180]])).corners[0]
    inside = (corners[:, 0] > 100) & (corners[:, 0] < 200) & (corners[:, 1] > 60) & (corners[:, 1] < 180)
    assert len(corners) > 50
    assert not inside.any()
