"""Tests of the parts around the fit: mapping, cameras, quality, crop windows, hands, and drawing."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opendimo.model.body.skeleton import JOINTS
from opendimo.pipelines.poses import quality
from opendimo.pipelines.poses.crops import fill, follow
from opendimo.pipelines.poses.hands import drop_strange_hands
from opendimo.pipelines.poses.landmarker import Landmarker
from opendimo.pipelines.poses.landmarks import Landmarks, Rtmlib
from opendimo.pipelines.poses.mapping import INDEX, MIX, POINTS, TRUST, observe
from opendimo.pipelines.poses.overlay import LEFT, RIGHT, draw_skeleton
from opendimo.pipelines.poses.view import View, view_of
from opendimo.storage_schemas.conventions import project


def landmarks(frames: int = 3) -> Landmarks:
    """Return landmarks at distinct positions, all observed."""
    rng = np.random.default_rng(0)
    found = Landmarks.nothing(frames)
    found.body[:] = np.concatenate([rng.uniform(0, 200, (frames, 33, 3)), np.ones((frames, 33, 1))], 2)
    found.world[:] = rng.uniform(-1, 1, (frames, 33, 3))
    found.hands[:] = rng.uniform(0, 200, (frames, 2, 21, 4))
    found.hands[..., 3] = 1
    for flags in (found.body_found, found.world_found, found.hands_found):
        flags[:] = True
    return found


def test_points_come_from_the_landmarks_of_their_name() -> None:
    """MediaPipe indices: 11 and 14 are the left shoulder and right elbow; 8 and 17 the tip of the index finger and the
    first joint of the little finger."""
    found = landmarks()
    pixels = observe(found).pixels
    assert np.allclose(pixels[:, INDEX["left_shoulder"], :2], found.body[:, 11, :2])
    assert np.allclose(pixels[:, INDEX["right_elbow"], :2], found.body[:, 14, :2])
    assert np.allclose(pixels[:, INDEX["left_index_tip"], :2], found.hands[:, 0, 8, :2])
    assert np.allclose(pixels[:, INDEX["right_pinky1"], :2], found.hands[:, 1, 17, :2])
    assert np.allclose(pixels[:, INDEX["left_thumb3"], :2], found.hands[:, 0, 3, :2])


def test_the_pelvis_is_between_the_hips_and_nothing_tells_of_the_spine() -> None:
    symmetric = landmarks(1)
    symmetric.body[0, [23, 24], :2] = [[110, 200], [90, 200]]
    symmetric.body[0, [11, 12], :2] = [[120, 100], [80, 100]]
    pixels = observe(symmetric).pixels[0]
    x, y, sure = pixels[INDEX["pelvis"]]
    assert x == pytest.approx(100) and 180 < y < 200 and 0 < sure < 1
    assert pixels[[INDEX["spine1"], INDEX["spine2"], INDEX["left_collar"]], 2].max() == 0


def test_shares_sum_to_one() -> None:
    sums = MIX.sum(1)
    assert np.allclose(sums[TRUST > 0], 1) and np.all(sums[TRUST == 0] == 0)
    assert len(POINTS) == 71 and POINTS[:52] == JOINTS


def test_missing_detections_have_no_confidence_and_no_nan() -> None:
    found = landmarks(2)
    found.body_found[1] = found.world_found[1] = False
    found.hands_found[0, 1] = False
    seen = observe(found)
    assert np.isfinite(seen.pixels).all() and np.isfinite(seen.shape).all()
    body = [i for i, name in enumerate(POINTS) if name in ("left_knee", "nose", "right_wrist")]
    assert seen.pixels[1, body, 2].max() == 0 and seen.shape[1, body, 3].max() == 0
    assert seen.pixels[0, INDEX["right_index1"], 2] == 0 and seen.pixels[0, INDEX["left_index1"], 2] == 1


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000))
def test_distortion_goes_there_and_back(seed: int) -> None:
    rng = np.random.default_rng(seed)
    K = np.array([[[900.0, 0, 480], [0, 900, 270], [0, 0, 1]]])
    view = View(960, 540, 30.0, K, None, rng.uniform(-1, 1, 5) * [0.1, 0.05, 1e-3, 1e-3, 0.01])
    points = np.concatenate([rng.uniform(-0.4, 0.4, (1, 30, 2)) * [1.2, 0.7], np.ones((1, 30, 1))], 2) * 3
    distorted = view.pixels(points)
    assert np.abs(distorted - project(points, K)).max() > 0.05
    assert np.abs(view.undistorted(distorted) - project(points, K)).max() < 0.05


def test_an_unknown_camera_is_assumed_and_an_unmetric_one_not_used() -> None:
    clip = {"frames": 4, "width": 640, "height": 360, "fps_num": 30000, "fps_den": 1001, "K": None, "distortion": None}
    view = view_of(clip)
    assert view.K.shape == (4, 3, 3) and view.K[0, 0, 0] == 768 and view.K[0, 0, 2] == 320
    assert view.world_to_camera is None and view.fps == pytest.approx(29.97, abs=1e-3)
    slam = {**clip, "K": np.eye(3)[None], "world_to_camera": np.eye(3, 4)[None], "metric": False}
    assert not view_of(slam).calibrated and view_of({**slam, "metric": True}).calibrated


def test_quality_numbers_have_their_units() -> None:
    t = np.arange(30)[:, None, None] / 30
    falling = np.concatenate([0 * t, 0.5 * 9.81 * t**2, 0 * t], 2).repeat(22, 1)
    assert quality.jitter(falling, 30.0, np.ones(30, bool)) == pytest.approx(9.81, rel=1e-6)
    sliding = np.zeros((30, 52, 3))
    sliding[..., 0] = 0.2 * t[..., 0]
    assert quality.foot_skate(sliding, np.array([0, 0, -1.0]), 30.0, np.ones(30, bool)) == pytest.approx(0.2)
    assert quality.foot_skate(sliding, np.array([0, 0, -1.0]), 30.0, np.zeros(30, bool)) is None


def test_reprojection_is_a_share_of_the_height() -> None:
    fitted = np.zeros((2, len(POINTS), 2))
    fitted[:, INDEX["left_foot"], 1] = 100
    observed = np.concatenate([fitted + np.array([3, 4]), np.ones((2, len(POINTS), 1))], 2)
    observed[1, :, 2] = 0
    error = quality.reprojection_per_frame(fitted, observed)
    assert error[0] == pytest.approx(0.05) and np.isnan(error[1])


def test_weight_falls_with_every_fault_and_is_zero_without_a_valid_frame() -> None:
    every, sure = np.ones(10, bool), np.ones(10)
    best = quality.weight(0.0, 0.0, every, sure)
    assert best == 1
    assert quality.weight(0.04, 0.0, every, sure) == pytest.approx(0.5)
    assert quality.weight(0.0, 40.0, every, sure) == pytest.approx(0.5)
    assert quality.weight(0.0, 0.0, np.arange(10) < 5, sure) == pytest.approx(0.5)
    assert quality.weight(0.0, 0.0, ~every, sure) == 0


def test_a_still_person_gets_a_still_window_without_the_neighbour() -> None:
    frame = np.full((120, 200, 3), 255, np.uint8)
    windows = follow(np.array([[20, 20, 60, 100.0], [np.nan] * 4, [22, 20, 62, 100]]), 200, 120)
    assert (windows.origin == windows.origin[0]).all()
    assert windows.cut(frame, 0).any() and windows.size[0] < 110
    x = 60 + 20 - windows.origin[0, 0] + 1  # beyond the margin of a quarter of 80 pixels
    assert not windows.cut(frame, 0)[:, x:].any()


def test_the_window_follows_a_walker_and_finds_the_same_pixels() -> None:
    left = np.linspace(0, 500, 40)
    track = np.stack([left, 0 * left + 30, left + 40, 0 * left + 110], 1)
    frame = np.random.default_rng(0).integers(1, 255, (140, 600, 3), dtype=np.uint8)
    windows = follow(track, 600, 140)
    assert windows.size[0] < 200 and np.ptp(windows.origin[:, 0]) > 300
    x, y = int(left[20]) + 20, 70
    ox, oy = windows.origin[20]
    assert (windows.cut(frame, 20)[y - oy, x - ox] == frame[y, x]).all()


def test_gaps_are_bridged_in_a_straight_line() -> None:
    values = np.array([[np.nan], [0], [np.nan], [2], [np.nan]])
    assert fill(values)[:, 0].tolist() == [0, 0, 1, 2, 2]
    with pytest.raises(ValueError, match="in no frame"):
        fill(np.full((3, 1), np.nan))


def test_hands_of_others_and_doubles_are_dropped() -> None:
    found = landmarks(3)
    hand = np.random.default_rng(0).uniform(0, 20, (21, 2))
    for side, wrist in enumerate((15, 16)):
        found.body[:, wrist, :2] = [100 + 60 * side, 100]
        found.hands[:, side, :, :2] = hand - hand[0] + found.body[0, wrist, :2]
    found.hands[1, 0, :, :2] += 80  # another person's hand
    found.hands[2, 1, :, :2] = found.hands[2, 0, :, :2] + 1  # the left hand, detected twice
    assert drop_strange_hands(found).hands_found.tolist() == [[True, True], [False, True], [True, False]]


def test_a_missing_package_or_model_is_named() -> None:
    with pytest.raises(ValueError, match=r"rtmlib|\.onnx"):
        Landmarker(Rtmlib("/nowhere/model.onnx"))


def test_left_is_orange_and_right_is_blue() -> None:
    joints = np.zeros((52, 3))
    joints[:, 2] = 1
    joints[JOINTS.index("left_elbow")] = joints[JOINTS.index("left_wrist")] = [150, 50, 1]
    joints[JOINTS.index("right_elbow")] = joints[JOINTS.index("right_wrist")] = [50, 150, 1]
    frame = np.zeros((200, 200, 3), np.uint8)
    drawn = draw_skeleton(frame, joints, hands=(False, False))
    assert tuple(drawn[50, 150]) == LEFT and tuple(drawn[150, 50]) == RIGHT
    assert not frame.any()  # the input is not modified
    joints[5] = np.nan
    draw_skeleton(frame, joints)
