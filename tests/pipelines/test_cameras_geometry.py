"""Tests of camera terms from known cameras: exact paths, labelled renders, and real SLAM tracks."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from opendimo.pipelines.cameras.geometry import camera_motion, camera_rates, subject_from_track
from opendimo.pipelines.cameras.terms import jitter, words
from opendimo.storage_schemas.conventions import project
from tests.pipelines.camera_files import bedlam_cameras, bedlam_subject, humanvid_cameras, multicam_cameras

FPS = 24.0
T = 73  # three seconds
RAMP = np.linspace(0, 1, T)


def path(
    *, heading: float = 0.0, start=(0.0, 0.0, 0.0), right=0.0, down=0.0, forward=0.0, yaw=0.0, pitch=0.0, roll=0.0
):
    """Return cameras that move from `start` by metres along their initial axes and rotate by degrees, steadily.

    Written camera-to-world, apart from the code under test: right turn = +y, look up = +x, clockwise = +z.
    """
    base = Rotation.from_euler("y", heading, degrees=True)
    local = Rotation.from_euler("YXZ", np.stack([RAMP * yaw, RAMP * pitch, RAMP * roll], axis=1), degrees=True)
    to_world = (base * local).as_matrix()
    centres = np.array(start) + RAMP[:, None] * base.apply([right, down, forward])
    R = to_world.transpose(0, 2, 1)
    return np.concatenate([R, -np.einsum("tij,tj->ti", R, centres)[..., None]], axis=2)


def said(cameras, K=None, subject=None):
    return words(camera_motion(cameras, K, FPS, subject).terms)


@pytest.mark.parametrize("heading", [0, 90, 180, 270])
def test_a_dolly_in_is_a_dolly_in_at_every_heading(heading):
    assert said(path(heading=heading, start=(3, 1, -2), forward=2)) == {"dolly_in"}


MOVES = {
    "dolly_in": {"forward": 1},
    "dolly_out": {"forward": -1},
    "truck_right": {"right": 1},
    "truck_left": {"right": -1},
    "pedestal_down": {"down": 1},
    "pedestal_up": {"down": -1},
    "pan_right": {"yaw": 20},
    "pan_left": {"yaw": -20},
    "tilt_up": {"pitch": 15},
    "tilt_down": {"pitch": -15},
    "roll_cw": {"roll": 20},
    "roll_ccw": {"roll": -20},
}


@pytest.mark.parametrize("term", MOVES)
def test_each_axis_has_its_word(term):
    assert said(path(heading=40, start=(1, 2, 3), **MOVES[term])) == {term}


def test_panning_on_the_spot_away_from_the_origin_is_only_a_pan():
    assert said(path(start=(5, 0, 0), yaw=40)) == {"pan_right"}


def test_the_words_follow_the_camera_and_not_the_picture():
    """A point straight ahead moves left in the image if the camera pans right, and up if it tilts down."""
    ahead = np.array([0, 0, 4, 1.0])
    right, up, clockwise = path(yaw=10)[-1], path(pitch=10)[-1], path(roll=10)[-1]
    assert (right @ ahead)[0] < 0
    assert (up @ ahead)[1] > 0
    assert (clockwise @ [1, 0, 4, 1.0])[1] < 0  # a point at 3 o'clock moves up: the image rotates the other way


def test_rates_are_in_degrees_and_subject_distances_per_second():
    rates = camera_rates(path(heading=70, yaw=30, start=(4, 4, 4)), None, FPS, 4.0)
    assert np.degrees(rates[:, 0]) == pytest.approx(10, abs=1e-6)
    rates = camera_rates(path(heading=70, right=3, down=-6), None, FPS, 2.0)
    assert rates[:, 3] == pytest.approx(0.5, abs=1e-9)
    assert rates[:, 4] == pytest.approx(1.0, abs=1e-9)


def test_zoom_is_a_change_of_focal_length():
    K = np.tile(np.array([[900.0, 0, 640], [0, 900, 360], [0, 0, 1]]), (T, 1, 1))
    K[:, [0, 1], [0, 1]] *= (1 + RAMP)[:, None]
    motion = camera_motion(path(), K, FPS)
    assert words(motion.terms) == {"zoom_in"}
    assert motion.evidence["zoom_factor"] == pytest.approx(2, abs=1e-3)


def test_a_dolly_zoom_has_both_words():
    K = np.tile(np.array([[900.0, 0, 640], [0, 900, 360], [0, 0, 1]]), (T, 1, 1))
    K[:, [0, 1], [0, 1]] /= (1 + RAMP)[:, None]
    assert said(path(forward=2), K) == {"dolly_in", "zoom_out"}


@pytest.mark.parametrize(("sign", "word"), [(1, "arc_right"), (-1, "arc_left")])
def test_circling_the_subject_is_an_arc(sign, word):
    angle = np.radians(sign * 40) * RAMP  # right of the subject's front as the camera sees it
    centres = np.stack([4 * np.sin(angle), np.zeros(T), 4 - 4 * np.cos(angle)], axis=1)  # around (0, 0, 4)
    R = Rotation.from_rotvec(np.stack([0 * angle, -angle, 0 * angle], axis=1)).as_matrix().transpose(0, 2, 1)
    cameras = np.concatenate([R, -np.einsum("tij,tj->ti", R, centres)[..., None]], axis=2)
    assert said(cameras, subject=np.tile([0.0, 0, 4], (T, 1))) == {word}


def test_trucking_and_panning_the_same_way_is_no_arc():
    assert said(path(right=2, yaw=25)) == {"truck_right", "pan_right"}


@pytest.mark.parametrize(("metres", "degrees"), [(-2, 5), (-0.6, 40)])
def test_turning_far_too_little_or_too_much_is_no_arc(metres, degrees):
    """2 m to the left at 4 m would need 27 degrees to the right to keep the subject centred, 0.6 m 9 degrees."""
    assert said(path(right=metres, yaw=degrees)) == {"truck_left", "pan_right"}


def test_going_along_with_a_walking_subject_is_follow():
    cameras = path(heading=30, right=2.5)
    assert said(cameras, subject=np.tile([0.2, 0, 4], (T, 1))) == {"follow"}
    standing = np.stack([-2.5 * RAMP, 0 * RAMP, 0 * RAMP + 4], axis=1)
    assert said(cameras, subject=standing) == {"truck_right"}


def test_moves_one_after_the_other_have_their_spans():
    cameras = np.concatenate([path(yaw=-45), np.repeat(path(yaw=-45)[-1:], 60, axis=0)])
    pan, hold = camera_motion(cameras, None, FPS).terms
    assert (pan.term, pan.speed, pan.start_frame) == ("pan_left", "medium", 0)
    assert (hold.term, hold.end_frame) == ("static", T + 60)
    assert abs(pan.end_frame - T) <= 4
    assert abs(hold.start_frame - T) <= 4


def test_speeds_are_told_apart():
    speeds = [camera_motion(path(yaw=yaw), None, FPS).terms[0].speed for yaw in (15, 60, 150)]
    assert speeds == ["slow", "medium", "fast"]


def test_the_same_path_is_slower_for_a_far_subject():
    near, far = (np.stack([-0.6 * RAMP, 0 * RAMP, 0 * RAMP + d], axis=1) for d in (2, 30))  # fixed in the world
    assert said(path(right=0.6), subject=near) == {"truck_right"}
    assert said(path(right=0.6), subject=far) == {"static"}


def test_jitter_is_shake_and_not_a_pan():
    noise = np.random.default_rng(0).normal(scale=0.6, size=(T, 3))
    R = Rotation.from_euler("YXZ", noise, degrees=True).as_matrix()
    cameras = np.concatenate([R, np.zeros((T, 3, 1))], axis=2)
    assert said(cameras) == {"shake"}


def test_a_pan_by_hand_is_a_pan_with_shake():
    noise = np.random.default_rng(0).normal(scale=0.4, size=(T, 3))
    R = Rotation.from_euler("YXZ", noise, degrees=True).as_matrix() @ path(yaw=45)[:, :, :3]
    assert said(np.concatenate([R, np.zeros((T, 3, 1))], axis=2)) == {"pan_right", "shake"}


@pytest.mark.parametrize("frames", [1, 2, 3, 5, 9])
def test_very_short_clips_are_judged(frames):
    assert said(path()[:frames]) == {"static"}


def test_a_fast_pan_of_a_few_frames_is_seen():
    assert said(path(yaw=180)[:5]) == {"pan_right"}


def test_broken_cameras_are_refused():
    cameras = path()
    cameras[3, 0, 0] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        said(cameras)
    with pytest.raises(ValueError, match="shape"):
        said(np.zeros((4, 4, 4)))


angles = st.floats(-180, 180)
metres = st.floats(-50, 50)


@settings(max_examples=40, deadline=None)
@given(
    st.tuples(angles, angles, angles),
    st.tuples(metres, metres, metres),
    st.sampled_from(sorted(MOVES)),
    st.sampled_from(sorted(MOVES)),
)
def test_the_choice_of_world_changes_nothing(turn, shift, first, second):
    move = MOVES[first] | MOVES[second]
    cameras = path(heading=25, start=(1, 0, 2), **move)
    subject = np.stack([RAMP, 0 * RAMP, 4 - RAMP], axis=1)
    R, t = cameras[:, :, :3], cameras[:, :, 3]
    Q = Rotation.from_euler("xyz", turn, degrees=True).as_matrix()  # X = Q X' + shift
    moved = np.concatenate([R @ Q, (R @ np.array(shift) + t)[..., None]], axis=2)
    assert camera_motion(moved, None, FPS, subject).terms == camera_motion(cameras, None, FPS, subject).terms


@settings(max_examples=30, deadline=None)
@given(st.floats(0.1, 20), st.sampled_from(sorted(MOVES)))
def test_the_unit_of_length_changes_nothing(scale, term):
    """Terms are relative to the subject distance, so scaling cameras and subject changes nothing."""
    cameras = path(heading=25, start=(1, 0, 2), **MOVES[term])
    subject = np.tile([0.1, 0.2, 4.0], (T, 1)) + RAMP[:, None] * [0.8, 0, 0]
    scaled = np.concatenate([cameras[:, :, :3], cameras[:, :, 3:] * scale], axis=2)
    same = camera_motion(scaled, None, FPS, subject * scale).terms
    assert words(same) == words(camera_motion(cameras, None, FPS, subject).terms)


SEQUENCES = [(1, f"seq_{i:06d}") for i in range(4)] + [(2, f"seq_{i:06d}") for i in range(8)]


@pytest.mark.parametrize(("version", "sequence"), SEQUENCES)
def test_renders_are_named_as_they_were_made(data: Path, version: int, sequence: str):
    root = data / f"ue5/mini_bedlam{version}"
    folder = root / "ground_truth" / ("camera" if version == 1 else "meta_exr_csv")
    cameras, K = bedlam_cameras(folder / f"{sequence}_camera.csv")
    subject = bedlam_subject(root / f"processed_labels/mini_bedlam{version}.npz", sequence, cameras)
    labels = json.loads((root / "camera_labels.json").read_text())
    motion = camera_motion(cameras.astype(np.float32), K.astype(np.float32), 30.0, subject)
    assert words(motion.terms) == set(labels[sequence]["camera_motion"])

    # the same with only a noisy box of the person: 0.9 m wide, from head to feet
    rng = np.random.default_rng(0)
    corners = project(subject[:, None] + np.array([[-0.45, -0.75, 0], [0.45, 0.95, 0]]), K)  # [T, 2, 2]
    track = corners.reshape(-1, 4) + rng.normal(scale=3, size=(len(corners), 4))
    guessed = subject_from_track(track, K, 1280, 720)
    assert words(camera_motion(cameras, K, 30.0, guessed).terms) == set(labels[sequence]["camera_motion"])


@pytest.mark.parametrize(
    ("camera", "expected"),
    [
        ("cam01", {"pan_right"}),
        ("cam03", {"tilt_up"}),
        ("cam05", {"dolly_in"}),
        ("cam07", {"pedestal_up", "tilt_down"}),  # rises while looking at the subject
        ("cam09", {"arc_left"}),
    ],
)
def test_multicamvideo_is_named_as_published(data: Path, camera: str, expected: set[str]):
    cameras = multicam_cameras(data / "camera_trajectories/multicamvideo_extrinsics_odd.json", camera)
    assert words(camera_motion(cameras, None, 15.0).terms) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [("8486814", {"dolly_in"}), ("5479439", {"dolly_out"}), ("8347246", {"arc_right"})],
)
def test_smooth_slam_tracks_are_one_move(data: Path, name: str, expected: set[str]):
    cameras = humanvid_cameras(data / f"camera_trajectories/humanvid_{name}.txt")
    assert words(camera_motion(cameras, None, 30.0).terms) == expected


@pytest.mark.parametrize("name", ["7198499", "4190643", "4903024"])
def test_jittery_slam_tracks_shake(data: Path, name: str):
    cameras = humanvid_cameras(data / f"camera_trajectories/humanvid_{name}.txt")
    assert "shake" in words(camera_motion(cameras, None, 30.0).terms)


@pytest.mark.parametrize(
    ("name", "main"),
    [
        ("3044527", "truck_right"),
        ("3191808", "truck_right"),
        ("4190643", "pan_left"),
        ("4903024", "dolly_out"),
        ("5224762", "truck_right"),
    ],
)
def test_a_path_by_hand_is_its_net_motion_and_shake(data: Path, name: str, main: str):
    """The strongest entry of the data's summary.csv, with lengths in units of 4 m."""
    cameras = humanvid_cameras(data / f"camera_trajectories/humanvid_{name}.txt")
    assert words(camera_motion(cameras, None, 30.0).terms) == {main, "shake"}


def test_a_violent_tremble_is_not_read_as_turns(data: Path):
    """The roll jumps by degrees between frames, with a net change of half a degree."""
    cameras = humanvid_cameras(data / "camera_trajectories/humanvid_7198499.txt")
    assert not words(camera_motion(cameras, None, 30.0).terms) & {"roll_cw", "pan_left"}


def test_a_person_is_placed_by_the_height_of_the_box():
    K = np.tile(np.array([[800.0, 0, 320], [0, 800, 240], [0, 0, 1]]), (3, 1, 1))
    track = np.array([[400, 70, 480, 410], [np.nan] * 4, [400, 0, 480, 480]], dtype=float)
    subject = subject_from_track(track, K, 640, 480)
    assert subject[0] == pytest.approx([120 / 800 * 4, 0, 4.0])  # 340 pixels tall: 800 * 1.7 / 340 = 4 m
    assert np.isnan(subject[1]).all()
    assert np.isnan(subject[2]).all()  # cut off at top and bottom, so its height is unknown


@pytest.mark.parametrize("seed", range(40))
def test_evidence_of_exact_moves_is_finite(seed: int) -> None:
    """A running mean of squares rounds to below zero where a jerk is followed by a steady move."""
    random = np.random.default_rng(seed)
    pose = np.tile(np.eye(4)[:3], (120, 1, 1))
    stop = int(random.integers(10, 40))
    pose[:, :, 3] = random.normal(0, 2, 3) * np.minimum(np.arange(120), stop)[:, None]
    assert np.isfinite(jitter(camera_rates(pose, None, 30.0, 1.0), 30.0)).all()
    json.dumps(camera_motion(pose, None, 30.0).evidence, allow_nan=False)
