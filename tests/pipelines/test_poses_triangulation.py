"""Tests of triangulation: exact without noise, robust to a wrong view, unknown if undetermined."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from opendimo.pipelines.poses.triangulation import triangulate


def ring(views: int, seed: int) -> np.ndarray:
    """Return projections [V, 3, 4] of cameras about 4 m from the origin that look at it, with different intrinsics."""
    rng = np.random.default_rng(seed)
    projections = []
    for i in range(views):
        turn = Rotation.from_euler("yx", [2 * np.pi * i / views + rng.uniform(-0.2, 0.2), rng.uniform(-0.4, 0.4)])
        focal = rng.uniform(600, 1500)
        K = np.array([[focal, 0, 480.0], [0, focal * 1.02, 270.0], [0, 0, 1]])
        projections.append(K @ np.c_[turn.as_matrix(), [0, 0, rng.uniform(3, 5)]])
    return np.stack(projections)


def look(points: np.ndarray, projections: np.ndarray) -> np.ndarray:
    image = np.einsum("vij,nj->vni", projections, np.c_[points, np.ones(len(points))])
    return image[..., :2] / image[..., 2:]


def spread(projections: np.ndarray, points: int) -> np.ndarray:
    return np.repeat(projections[:, None], points, 1)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), views=st.integers(2, 6))
def test_noise_free_points_are_recovered_exactly(seed: int, views: int) -> None:
    points = np.random.default_rng(seed).uniform(-0.9, 0.9, (20, 3))
    projections = ring(views, seed)
    if views == 2:  # two cameras that face each other give no depth
        projections = ring(3, seed)[:2]
    pixels = look(points, projections)
    found = triangulate(pixels, np.ones(pixels.shape[:2]), spread(projections, 20), 5.0)
    assert np.abs(found.points - points).max() < 1e-6
    assert found.inliers.all() and np.nanmax(found.residual) < 1e-4


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_a_wrong_view_does_not_move_the_points(seed: int) -> None:
    rng = np.random.default_rng(seed)
    points, projections = rng.uniform(-0.9, 0.9, (20, 3)), ring(4, seed)
    pixels = look(points, projections)
    liar = rng.integers(4)
    pixels[liar] += rng.choice([-1, 1], (20, 2)) * rng.uniform(60, 200, (20, 2))
    found = triangulate(pixels, np.ones((4, 20)), spread(projections, 20), 10.0)
    assert np.median(np.linalg.norm(found.points - points, axis=1)) < 1e-6
    assert found.inliers[liar].mean() < 0.1
    assert np.nanmedian(found.residual[liar]) > 50  # the residual identifies the view


def test_noise_of_a_pixel_stays_within_a_centimetre() -> None:
    rng = np.random.default_rng(0)
    points, projections = rng.uniform(-0.9, 0.9, (200, 3)), ring(4, 0)
    pixels = look(points, projections) + rng.normal(0, 1, (4, 200, 2))
    found = triangulate(pixels, np.ones((4, 200)), spread(projections, 200), 10.0)
    assert np.median(np.linalg.norm(found.points - points, axis=1)) < 0.01


def test_a_point_seen_by_one_view_is_unknown() -> None:
    points, projections = np.zeros((1, 3)), ring(3, 1)
    confidence = np.array([[1.0], [0.1], [0.0]])
    found = triangulate(look(points, projections), confidence, spread(projections, 1), 10.0)
    assert found.confidence[0] == 0 and not found.inliers.any()
    assert np.isfinite(found.points).all()


def test_views_that_contradict_each_other_give_nothing() -> None:
    projections = ring(3, 2)[:2]
    pixels = look(np.zeros((1, 3)), projections)
    pixels[1, 0, 1] += 400  # far off the epipolar line
    assert triangulate(pixels, np.ones((2, 1)), spread(projections, 1), 10.0).confidence[0] == 0
