from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.transforms.v2 import functional as golden

from opendimo.model.batch import Driving
from opendimo.model.encoder.augment import augment_driving, follow, homography, random_homographies, warp
from opendimo.model.encoder.colour import colour_map, random_colours, recolour
from opendimo.model.encoder.config import AugmentConfig
from tests.model.pipelines import same_target

SIZE, HAND = 128, 64


def draws(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def seeds_of(seed: int, clips: int = 2) -> list[int]:
    return [1000 * seed + clip for clip in range(clips)]


def clip(body: torch.Tensor, hands: torch.Tensor, boxes: torch.Tensor) -> Driving:
    """Return driving inputs with the given images [B, T, ...] and random labels."""
    b, t = body.shape[:2]
    ok = torch.ones(b, t, 2, dtype=torch.bool)
    return Driving(
        body=body, hands=hands, hand_ok=ok, hand_boxes=boxes,
        body6d=torch.randn(b, t, 21, 6), hands6d=torch.randn(b, t, 2, 15, 6), joints_3d=torch.randn(b, t, 52, 3),
        joints_2d=torch.rand(b, t, 52, 3), landmarks_2d=torch.rand(b, t, 52, 3),
        K=torch.randn(b, t, 3, 3), **same_target(t, b),
        pose_ok=ok[..., 0], hands_pose_ok=ok,
    )  # fmt: skip


def noise(seed: int = 0, samples: int = 2, frames: int = 3) -> Driving:
    g = draws(seed)
    boxes = torch.tensor([[-0.4, 0.1, 0.2], [0.5, -0.2, 0.15]]).expand(samples, frames, 2, 3)
    body, hands = ((samples, frames, 3, 32, 32), (samples, frames, 2, 3, 16, 16))
    return clip(torch.rand(body, generator=g), torch.rand(hands, generator=g), boxes)


def blobs(points: torch.Tensor, size: int, radius: float) -> torch.Tensor:
    """Draw soft white dots in crops that span [-1, 1]: points [..., 2] -> [..., 3, size, size]."""
    line = (torch.arange(size) * 2 + 1) / size - 1
    x, y = (points[..., i, None, None] for i in (0, 1))
    picture = (-((line[None, :] - x) ** 2 + (line[:, None] - y) ** 2) / (2 * radius**2)).exp()
    return picture[..., None, :, :].expand(*points.shape[:-1], 3, size, size)


def centroids(pictures: torch.Tensor) -> torch.Tensor:
    """Locate one dot per image: [..., 3, S, S] -> [..., 2] in a crop that spans [-1, 1]."""
    size = pictures.shape[-1]
    line = (torch.arange(size) * 2 + 1) / size - 1
    mass = pictures[..., 0, :, :]
    total = mass.sum((-1, -2))
    return torch.stack([(mass.sum(-2) * line).sum(-1), (mass.sum(-1) * line).sum(-1)], -1) / total[..., None]


def mapped(h: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
    """Map points [n, 2] by one homography [3, 3]."""
    homogeneous = torch.cat([points, torch.ones(len(points), 1, dtype=points.dtype)], 1) @ h.T
    return homogeneous[:, :2] / homogeneous[:, 2:]


def test_strength_zero_is_the_identity() -> None:
    before = noise()
    after = augment_driving(before, AugmentConfig(perspective=0, jitter=0), seeds_of(0))
    assert all(torch.equal(getattr(after, f.name), getattr(before, f.name)) for f in fields(Driving))


@pytest.mark.parametrize("per_frame", [False, True])
def test_the_seed_decides(per_frame: bool) -> None:
    config = AugmentConfig(per_frame=per_frame)
    once, again, other = (augment_driving(noise(), config, seeds_of(seed)) for seed in (0, 0, 1))
    for name in ("body", "hands", "hand_boxes"):
        assert torch.equal(getattr(once, name), getattr(again, name))
        assert (getattr(once, name) - getattr(other, name)).abs().mean() > 0.01


def test_a_clip_is_augmented_in_the_same_way_in_any_batch() -> None:
    before, config = noise(), AugmentConfig()
    both = augment_driving(before, config, [5, 6])
    second = augment_driving(before.map(lambda x: x[1:]), config, [6])
    for name in ("body", "hands", "hand_boxes"):
        torch.testing.assert_close(getattr(second, name)[0], getattr(both, name)[1])


def test_results_are_images_and_labels_stay() -> None:
    before = noise()
    after = augment_driving(before, AugmentConfig(0.5, 0.5), seeds_of(0))
    for name in ("body", "hands"):
        picture = getattr(after, name)
        assert picture.shape == getattr(before, name).shape and picture.min() >= 0 and picture.max() <= 1
    for name in {f.name for f in fields(Driving)} - {"body", "hands", "hand_boxes"}:
        assert torch.equal(getattr(after, name), getattr(before, name))


@given(st.integers(0, 10**6), st.floats(0, 0.6))
def test_a_homography_is_recovered_from_four_points(seed: int, strength: float) -> None:
    true = random_homographies(1, 1, strength, draws(seed))[0, 0].double()
    source = torch.tensor([[-0.9, -1.0], [1.0, -0.7], [0.8, 1.0], [-1.0, 0.6]], dtype=torch.float64)
    torch.testing.assert_close(homography(source, mapped(true, source)), true, rtol=1e-5, atol=1e-6)


@given(st.integers(0, 10**6), st.floats(0.05, 0.3))
@settings(max_examples=20, deadline=None)
def test_a_homography_is_recovered_from_where_dots_are_seen_after_the_warp(seed: int, strength: float) -> None:
    true = random_homographies(1, 1, strength, draws(seed))[0, 0]
    dots = torch.tensor([[-0.5, -0.4], [0.4, -0.5], [0.5, 0.4], [-0.4, 0.5]])
    warped = centroids(warp(blobs(dots, SIZE, 0.04), true.expand(4, 3, 3)))
    estimated = homography(warped.double(), dots.double())  # the warp maps output to input coordinates
    grid = torch.cartesian_prod(*[torch.linspace(-0.5, 0.5, 5, dtype=torch.float64)] * 2)
    assert (mapped(estimated, grid) - mapped(true.double(), grid)).abs().max() < 1 / SIZE  # half a pixel


@given(st.integers(0, 10**6), st.floats(-0.65, 0.65), st.floats(-0.65, 0.65), st.booleans())
@settings(max_examples=20, deadline=None)
def test_a_dot_in_body_and_hand_crop_lands_in_the_same_place_in_both(
    seed: int, x: float, y: float, per_frame: bool
) -> None:
    boxes = torch.tensor([[x, y, 0.25], [-x, y, 0.15]]).repeat(1, 2, 1, 1)  # [1, 2, 2, 3]
    in_hand = torch.tensor([[0.3, -0.2], [-0.1, 0.35]])  # dots of the left hand in frame 0 and in frame 1
    dots = boxes[0, :, 0, :2] + boxes[0, :, 0, 2:] * in_hand
    hands = torch.stack([blobs(in_hand, HAND, 0.1), blobs(-in_hand, HAND, 0.1)], dim=1)  # [2, 2, 3, s, s]
    before = clip(blobs(dots, SIZE, 0.025)[None], hands[None], boxes)
    after = augment_driving(before, AugmentConfig(0.2, 0, per_frame), [seed])
    body, boxes = centroids(after.body)[0], after.hand_boxes[0, :, 0]
    hand = boxes[:, :2] + boxes[:, 2:] * centroids(after.hands)[0, :, 0]
    assert (hand - body).abs().max() < 2 / SIZE  # a pixel
    assert centroids(after.hands).abs().max() < 0.7  # and it is still well within the hand's crop


@given(st.integers(0, 10**6), st.floats(-3, 3), st.floats(-3, 3), st.floats(0.05, 1))
@settings(max_examples=50)
def test_hand_crops_are_those_of_the_warped_body_wherever_they_lie(seed: int, x: float, y: float, half: float) -> None:
    """The hand's warp is a conjugation: from the new box, through the body's warp, to the old box."""
    h = random_homographies(1, 1, 0.3, draws(seed)).double()
    box = torch.tensor([x, y, half], dtype=torch.float64)
    g, after = follow(box.expand(1, 1, 2, 3), h)
    assert after.isfinite().all() and (after[..., 2] > 0.2 * half).all() and (after[..., 2] < 5 * half).all()
    points = 2 * torch.rand(20, 2, generator=draws(seed), dtype=torch.float64) - 1
    through_body = mapped(h[0, 0], after[0, 0, 0, :2] + after[0, 0, 0, 2] * points)
    torch.testing.assert_close(box[:2] + half * mapped(g[0, 0, 0], points), through_body)


def test_corners_move_by_at_most_the_strength() -> None:
    h = random_homographies(64, 2, 0.3, draws(0))
    corners = torch.tensor([[-1.0, -1, 1], [1, -1, 1], [1, 1, 1], [-1, 1, 1]])
    moved = corners @ h.transpose(-1, -2)
    distance = (moved[..., :2] / moved[..., 2:] - corners[:, :2]).abs()
    assert distance.max() <= 0.3 + 1e-5
    assert distance.max() > 0.25


def test_frames_share_most_of_their_warp_unless_each_has_its_own() -> None:
    for share, ratio in ((0.1, (0, 0.03)), (1.0, (0.8, 1.2))):
        h = random_homographies(500, 2, 0.3, draws(0), share)
        within = (h[:, 0] - h[:, 1]).square().mean()
        between = (h[:-1, 0] - h[1:, 0]).square().mean()
        assert ratio[0] < within / between < ratio[1]


def test_a_shift_moves_pixels_by_that_much() -> None:
    frames = noise().body
    shift = torch.eye(3).repeat(2, 3, 1, 1)
    shift[..., 0, 2] = 2 * 4 / 32  # four pixels of 32, in units of half a side
    torch.testing.assert_close(warp(frames, shift)[..., :28], frames[..., 4:], atol=1e-5, rtol=0)
    assert (warp(frames, shift)[..., 28:] == 0).all()


def test_body_and_hands_of_a_clip_change_colour_together_and_clips_do_not() -> None:
    before = noise()
    skin = torch.tensor([0.6, 0.45, 0.35])[:, None, None]
    before = replace(before, body=skin.expand_as(before.body), hands=skin.expand_as(before.hands))
    after = augment_driving(before, AugmentConfig(perspective=0), seeds_of(0))
    for sample in (0, 1):
        colour = after.body[sample, 0, :, :1, :1]
        torch.testing.assert_close(after.body[sample], colour.expand_as(after.body[sample]))
        torch.testing.assert_close(after.hands[sample], colour.expand_as(after.hands[sample]))
    assert (after.body[0] - after.body[1]).abs().max() > 0.05


def test_colour_jitter_moves_no_edge() -> None:
    frames = torch.zeros(1, 2, 3, 16, 16)
    frames[..., 5:11, 3:9] = torch.tensor([0.8, 0.4, 0.2])[:, None, None]
    result = recolour(frames, random_colours(1, 0.3, draws(3)))
    inside, outside = result[..., 5:11, 3:9], result[..., :5, :]
    assert (inside - inside[..., :1, :1]).abs().max() < 1e-6
    assert (outside - outside[..., :1, :1]).abs().max() < 1e-6
    assert (inside[..., :1, :1] - frames[..., 5:6, 3:4]).abs().max() > 0.02


def test_greys_stay_grey_and_turning_hues_keeps_the_luma() -> None:
    picture = 0.4 + 0.2 * torch.rand(1, 1, 3, 8, 8, generator=draws(0))
    grey = recolour(picture[:, :, :1].expand_as(picture), random_colours(1, 0.4, draws(1)))
    torch.testing.assert_close(grey, grey[:, :, :1].expand_as(grey))
    turned = recolour(picture, colour_map(torch.tensor([[0, 0, 0, 0.3]])))
    luma = [golden.rgb_to_grayscale(p) for p in (picture, turned)]
    torch.testing.assert_close(*luma, atol=1e-3, rtol=0)
    assert (picture - turned).abs().max() > 0.05


@pytest.mark.parametrize(
    "change, theirs", enumerate((golden.adjust_brightness, golden.adjust_contrast, golden.adjust_saturation))
)
def test_brightness_contrast_and_saturation_are_those_of_torchvision(change: int, theirs: Callable[..., Any]) -> None:
    picture = 0.3 + 0.3 * torch.rand(1, 1, 3, 8, 8, generator=draws(0))
    picture = picture + 0.5 - golden.rgb_to_grayscale(picture).mean()  # theirs spreads contrast around the mean
    changes = torch.zeros(1, 4)
    changes[0, change] = 0.2
    torch.testing.assert_close(recolour(picture, colour_map(changes)), theirs(picture, 1.2), atol=1e-3, rtol=0)
