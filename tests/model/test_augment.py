import torch
from hypothesis import given
from hypothesis import strategies as st

from model.augment import augment, homography, random_homographies, warp


def clips(seed: int = 0) -> torch.Tensor:
    return torch.rand(2, 3, 3, 32, 32, generator=torch.Generator().manual_seed(seed))


def run(perspective: float, jitter: float, seed: int = 0) -> torch.Tensor:
    return augment(clips(), perspective=perspective, jitter=jitter, generator=torch.Generator().manual_seed(seed))


def test_strength_zero_is_the_identity() -> None:
    assert torch.equal(run(0, 0), clips())


def test_the_seed_decides() -> None:
    assert torch.equal(run(0.3, 0.3), run(0.3, 0.3))
    assert (run(0.3, 0.3) - run(0.3, 0.3, seed=1)).abs().mean() > 0.01


def test_results_are_images() -> None:
    result = run(0.5, 0.5)
    assert result.shape == clips().shape and result.min() >= 0 and result.max() <= 1


@given(st.integers(0, 10**6), st.floats(0, 0.6))
def test_a_homography_is_recovered_from_four_points(seed: int, strength: float) -> None:
    g = torch.Generator().manual_seed(seed)
    true = random_homographies(1, 1, strength, g)[0, 0].double()
    source = torch.tensor([[-0.9, -1.0], [1.0, -0.7], [0.8, 1.0], [-1.0, 0.6]], dtype=torch.float64)
    mapped = torch.cat([source, torch.ones(4, 1, dtype=torch.float64)], 1) @ true.T
    torch.testing.assert_close(homography(source, mapped[:, :2] / mapped[:, 2:]), true, rtol=1e-5, atol=1e-6)


def test_corners_move_by_at_most_the_strength() -> None:
    h = random_homographies(64, 2, 0.3, torch.Generator().manual_seed(0))
    corners = torch.tensor([[-1.0, -1, 1], [1, -1, 1], [1, 1, 1], [-1, 1, 1]])
    moved = corners @ h.transpose(-1, -2)
    distance = (moved[..., :2] / moved[..., 2:] - corners[:, :2]).abs()
    assert distance.max() <= 0.3 + 1e-5
    assert distance.max() > 0.25


def test_frames_of_a_clip_share_most_of_the_warp_and_clips_none() -> None:
    h = random_homographies(200, 2, 0.3, torch.Generator().manual_seed(0))
    within = (h[:, 0] - h[:, 1]).square().mean()
    between = (h[:-1, 0] - h[1:, 0]).square().mean()
    assert within < 0.03 * between


def test_a_shift_moves_pixels_by_that_much() -> None:
    frames = clips()
    shift = torch.eye(3).repeat(2, 3, 1, 1)
    shift[..., 0, 2] = 2 * 4 / 32  # four pixels of 32, in units of half a side
    torch.testing.assert_close(warp(frames, shift)[..., :28], frames[..., 4:], atol=1e-5, rtol=0)
    assert (warp(frames, shift)[..., 28:] == 0).all()


def test_colour_jitter_moves_no_edge() -> None:
    frames = torch.zeros(1, 2, 3, 16, 16)
    frames[..., 5:11, 3:9] = torch.tensor([0.8, 0.4, 0.2])[:, None, None]
    result = augment(frames, perspective=0, jitter=0.3, generator=torch.Generator().manual_seed(3))
    inside, outside = result[..., 5:11, 3:9], result[..., :5, :]
    assert (inside - inside[..., :1, :1]).abs().max() < 1e-6
    assert (outside - outside[..., :1, :1]).abs().max() < 1e-6
    assert (inside[..., :1, :1] - frames[..., 5:6, 3:4]).abs().max() > 0.02
