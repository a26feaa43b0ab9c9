"""Renderings of capsules (position, depth, normals) match independent computations."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from opendimo.model.drawing.capsules import Capsules, Rendering, pixel_rays, render

K = torch.tensor([[[1.1, 0.0, 0.52], [0.0, 1.4, 0.47], [0.0, 0.0, 1.0]]])


def seen(*capsules: tuple[list[float], list[float], float], K: torch.Tensor = K, size: int = 24) -> Rendering:
    starts, ends, radii = (torch.tensor([c[i] for c in capsules]) for i in range(3))
    return render(
        Capsules(starts[None], ends[None], radii[None], torch.ones(1, len(radii), dtype=torch.bool)), K, size, size
    )


def distance(point: np.ndarray, start: np.ndarray, end: np.ndarray, radius: float) -> float:
    """Return the signed distance from a point to a capsule's surface."""
    axis = end - start
    share = np.clip((point - start) @ axis / max(axis @ axis, 1e-12), 0, 1)
    return float(np.linalg.norm(point - start - share * axis) - radius)


def march(ray: np.ndarray, capsules: list[tuple[list[float], list[float], float]]) -> float:
    """Return the depth of the first surface along a ray by sphere tracing; infinite if the ray misses."""
    t, speed = 0.0, np.linalg.norm(ray)
    for _ in range(2000):
        gap = min(distance(t * ray, np.array(a), np.array(b), r) for a, b, r in capsules)
        if gap < 1e-6:
            return t
        t += gap / speed
        if t > 50:
            break
    return np.inf


coordinate = st.floats(-1, 1, width=32)
capsule = st.tuples(
    st.tuples(coordinate, coordinate, st.floats(2, 5, width=32)).map(list),
    st.tuples(coordinate, coordinate, st.floats(2, 5, width=32)).map(list),
    st.floats(0.0625, 0.5, width=32),
)


@settings(max_examples=15, deadline=None)
@given(st.lists(capsule, min_size=1, max_size=3))
def test_depths_are_those_of_ray_marching(capsules: list) -> None:
    size = 8
    rendering, rays = seen(*capsules, size=size), pixel_rays(K, size, size)[0].double().numpy()
    for y in range(size):
        for x in range(size):
            expected, found = march(rays[y, x], capsules), float(rendering.depth[0, y, x])
            if np.isfinite(expected) and np.isfinite(found):
                assert found == pytest.approx(expected, abs=2e-3)
            elif np.isfinite(expected) != np.isfinite(found):  # only where the ray just touches a surface
                near = expected if np.isfinite(expected) else found
                steps = np.linspace(near - 0.8, near + 0.8, 400)
                closest = min(
                    distance(t * rays[y, x], np.array(a), np.array(b), r) for a, b, r in capsules for t in steps
                )
                assert closest > -2e-3


def test_a_ball_is_as_near_as_the_quadratic_formula_says() -> None:
    rendering = seen(([0.1, -0.2, 3.0], [0.1, -0.2, 3.0], 0.5))
    ray = pixel_rays(K, 24, 24)[0, 12, 12].double()
    centre = torch.tensor([0.1, -0.2, 3.0], dtype=torch.float64)
    a, b, c = ray @ ray, -2 * ray @ centre, centre @ centre - 0.25
    assert float(rendering.depth[0, 12, 12]) == pytest.approx(float((-b - (b * b - 4 * a * c).sqrt()) / (2 * a)))


def test_normals_point_out_of_the_surface_towards_the_camera() -> None:
    rendering = seen(([-0.5, 0.2, 3.0], [0.6, -0.3, 2.5], 0.3))
    rays = pixel_rays(K, 24, 24)
    points = rays * rendering.depth[..., None]
    hit = rendering.capsule >= 0
    assert hit.sum() > 30
    # a small step along the normal is exactly that far outside of the capsule
    stepped = (points + 0.05 * rendering.normal)[hit].double().numpy()
    away = [distance(p, np.array([-0.5, 0.2, 3.0]), np.array([0.6, -0.3, 2.5]), 0.3) for p in stepped]
    assert np.allclose(away, 0.05, atol=1e-4)
    assert ((rendering.normal * rays).sum(-1)[hit] < 0).all()
    assert (rendering.normal[~hit] == 0).all() and torch.isinf(rendering.depth[~hit]).all()


def test_the_nearer_capsule_hides_the_other() -> None:
    far, near = ([-1.0, 0.0, 4.0], [1.0, 0.0, 4.0], 0.4), ([0.0, -0.2, 2.0], [0.0, 0.2, 2.0], 0.2)
    one, other = seen(far, near), seen(near, far)
    assert one.capsule[0, 12, 12] == 1 and other.capsule[0, 12, 12] == 0
    assert torch.equal(one.depth, other.depth)
    assert {0, 1, -1} == set(one.capsule.unique().tolist())


def test_what_is_behind_the_camera_is_not_seen() -> None:
    assert (seen(([0.0, 0.0, -3.0], [0.3, 0.0, -2.0], 0.5)).capsule == -1).all()


def test_a_capsule_that_reaches_behind_the_camera_is_seen_in_front_of_it() -> None:
    capsules = [([0.0, 0.5, -2.0], [0.0, 0.5, 6.0], 0.2)]
    rendering, rays = seen(*capsules), pixel_rays(K, 24, 24)[0].double().numpy()
    for y, x in ((23, 12), (20, 12), (15, 12)):
        assert float(rendering.depth[0, y, x]) == pytest.approx(march(rays[y, x], capsules), rel=1e-4)


def test_capsules_that_are_not_there_may_hold_anything() -> None:
    good, lost = [0.0, 0.0, 3.0], [torch.nan] * 3
    starts, radii = torch.tensor([[good, lost]]), torch.tensor([0.3, 0.3])
    rendering = render(Capsules(starts, starts, radii[None], torch.tensor([[True, False]])), K, 8, 8)
    assert set(rendering.capsule.unique().tolist()) == {-1, 0} and torch.isfinite(rendering.normal).all()


def test_skew_moves_the_picture_and_its_bounds() -> None:
    skewed = K.clone()
    skewed[0, 0, 1] = 0.3
    ball = ([0.1, 0.6, 3.0], [0.1, 0.6, 3.0], 0.3)
    rendering, rays = seen(ball, K=skewed), pixel_rays(skewed, 24, 24)[0].double().numpy()
    expected = np.array([[np.isfinite(march(ray, [ball])) for ray in row] for row in rays])
    assert expected.sum() > 20 and (expected != (rendering.capsule[0] >= 0).numpy()).sum() <= 1


def test_frames_have_cameras_of_their_own() -> None:
    wide = torch.stack(
        [K[0], K[0] * torch.tensor([[0.5], [0.5], [1.0]]) + torch.tensor([[0, 0, 0.26], [0, 0, 0.235], [0, 0, 0]])]
    )
    ball = torch.tensor([[[0.0, 0.0, 3.0]]]).expand(2, 1, 3)
    rendering = render(Capsules(ball, ball, torch.full((2, 1), 0.5), torch.ones(2, 1, dtype=torch.bool)), wide, 24, 24)
    near, far = (rendering.capsule >= 0).flatten(1).sum(1).tolist()
    assert near == pytest.approx(4 * far, rel=0.25)
