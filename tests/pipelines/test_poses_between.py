"""Tests of interpolation between frames: exact for linear tracks and constant rotations, unknown outside the clip."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation, Slerp

from opendimo.pipelines.poses.between import cameras_at, moments_of, points_at, rotations_at
from opendimo.storage_schemas.conventions import camera_centres

FRAMES = 24
SHIFTS = st.floats(-6, 6, allow_nan=False)


def there_and_back(track: np.ndarray, shift: float) -> tuple[np.ndarray, np.ndarray]:
    """Return a track [T, P, 2] shifted by `shift` frames and back, and which frames [T] are still known."""
    frames = np.arange(len(track))
    seen = np.concatenate([track, np.ones_like(track[..., :1])], 2)
    back = points_at(points_at(seen, frames + shift), frames - shift)
    return back[..., :2], (back[..., 2] > 0).all(1)


@given(shift=SHIFTS, seed=st.integers(0, 10_000))
def test_straight_tracks_come_back_exactly(shift: float, seed: int) -> None:
    start, speed = np.random.default_rng(seed).normal(size=(2, 5, 2))
    track = 100 * start + 10 * speed * np.arange(FRAMES)[:, None, None]
    back, known = there_and_back(track, shift)
    assert known.sum() >= FRAMES - 2 * 7
    assert np.abs(back - track)[known].max() < 1e-3  # pixels; times are rounded to a millionth of a frame


@given(shift=SHIFTS, seed=st.integers(0, 10_000), period=st.floats(8, 40))
def test_band_limited_tracks_come_back_within_the_bound_of_straight_lines(
    shift: float, seed: int, period: float
) -> None:
    """The error of linear interpolation is at most max |f''| / 8 (per frame spacing of 1); it is applied twice here."""
    phase = np.random.default_rng(seed).uniform(0, 6, (5, 2))
    pace = 2 * np.pi / period
    track = 50 * np.sin(pace * np.arange(FRAMES)[:, None, None] + phase)
    back, known = there_and_back(track, shift)
    assert np.abs(back - track)[known].max() <= 2 * 50 * pace**2 / 8 + 1e-3


def test_a_point_between_frames_is_as_sure_as_the_less_sure_neighbour() -> None:
    points = np.array([[[0.0, 0, 0.9]], [[2, 4, 0.4]], [[4, 8, 0]], [[6, 12, 1]]])
    found = points_at(points, np.array([-0.1, 0, 0.5, 1, 1.2, 3, 3.1]))
    assert found[:, 0, 2].tolist() == [0, 0.9, 0.4, 0.4, 0, 1, 0]
    assert found[2, 0, :2].tolist() == [1, 2]


def test_whole_times_give_the_frames_bit_for_bit() -> None:
    rng = np.random.default_rng(0)
    points, turns = rng.normal(size=(9, 4, 3)), rng.normal(size=(9, 21, 3))
    cameras = np.concatenate([Rotation.from_rotvec(turns[:, 0]).as_matrix(), rng.normal(size=(9, 3, 1))], 2)
    times = np.array([4, 0.1 + 0.2 + 6.7, 8])  # 7 up to floating-point error
    for found, expected in ((points_at, points), (rotations_at, turns), (cameras_at, cameras)):
        assert np.array_equal(found(expected, times), expected[[4, 7, 8]])


@given(seed=st.integers(0, 10_000))
def test_rotations_between_frames_are_those_of_slerp(seed: int) -> None:
    rng = np.random.default_rng(seed)
    turns = Rotation.from_rotvec(rng.normal(size=(18, 3))).as_rotvec().reshape(6, 3, 3)
    times = np.sort(rng.uniform(0, 5, 7))
    found = rotations_at(turns, times)
    for joint in range(3):
        expected = Slerp(np.arange(6), Rotation.from_rotvec(turns[:, joint]))(times)
        assert (expected.inv() * Rotation.from_rotvec(found[:, joint])).magnitude().max() < 1e-4


def test_a_camera_between_frames_is_half_way_and_one_that_stands_stands() -> None:
    R = Rotation.from_euler("y", [[0], [10]], degrees=True).as_matrix()
    centres = np.array([[0.0, 1, -3], [1, 1, -3]])
    moving = np.concatenate([R, -R @ centres[..., None]], 2)
    (half,) = cameras_at(moving, np.array([0.5]))
    assert half[:, :3] == pytest.approx(Rotation.from_euler("y", 5, degrees=True).as_matrix())
    assert camera_centres(half[None])[0] == pytest.approx([0.5, 1, -3])
    assert cameras_at(moving[[1, 1]], np.array([0.3, 7]))[:, :, 3] == pytest.approx(moving[[1, 1], :, 3])


@given(late=st.lists(st.floats(-10, 10).map(lambda x: round(x, 1)), min_size=1, max_size=6), frames=st.integers(1, 50))
def test_every_frame_of_every_view_lies_among_the_moments(late: list[float], frames: int) -> None:
    moments = moments_of(np.array(late), frames)
    assert moments[0] <= -max(late) and moments[-1] >= frames - 1 - min(late)
    assert len(moments) < frames + max(late) - min(late) + 2
    assert moments_of(np.zeros(3), frames).tolist() == list(range(frames))
