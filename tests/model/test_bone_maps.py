"""Bone maps: where bones lie on the screen, and which of two is nearer."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from opendimo.model.body.skeleton import PARENTS
from opendimo.model.drawing.bone_maps import BoneMaps, draw_bone_maps
from opendimo.model.drawing.limbs import LIMBS

SIZE = 64
NEAR_K = torch.tensor([[0.9, 0.0, 0.5], [0.0, 0.9, 0.5], [0.0, 0.0, 1.0]])
FAR_K = torch.tensor([[15.0, 0.0, 0.5], [0.0, 15.0, 0.5], [0.0, 0.0, 1.0]])
"""Of a camera 50 m away, which sees almost in parallel projection."""


def skeletons(seed: int, frames: int, depth: float = 3.0) -> torch.Tensor:
    """Return random skeletons [F, 52, 3] with bones of 25 cm, fingers of 5 cm, in front of the camera."""
    generator = torch.Generator().manual_seed(seed)
    steps = torch.nn.functional.normalize(torch.randn(frames, 52, 3, generator=generator), dim=-1)
    steps = steps * torch.where(torch.arange(52) < 22, 0.25, 0.05)[:, None]
    joints = [torch.tensor([0.0, 0.0, depth]).expand(frames, 3)]
    for child in range(1, 52):
        joints.append(joints[PARENTS[child]] + steps[:, child])
    return torch.stack(joints, dim=1)


def drawn(joints: torch.Tensor, K: torch.Tensor = NEAR_K, size: int = SIZE) -> BoneMaps:
    frames = len(joints)
    ok = torch.ones(frames, dtype=torch.bool)
    return draw_bone_maps(joints, ok, ok[:, None].expand(-1, 2), K.expand(frames, 3, 3), size, size)


def test_the_middle_of_a_bone_is_drawn_where_it_projects_to() -> None:
    joints, found = skeletons(0, 40), 0
    maps = drawn(joints)
    for bone, (parent, child) in enumerate(LIMBS[:21]):
        middle = (joints[:, parent] + joints[:, child]) / 2
        pixels = (SIZE * (middle @ NEAR_K.T)[:, :2] / middle[:, 2:]).floor().long()
        inside = ((pixels >= 0) & (pixels < SIZE)).all(-1).nonzero()[:, 0]
        x, y = pixels[inside].T
        assert (maps.drawn[inside, y, x] >= bone).all()  # its own, or one of a higher index
        own = maps.drawn[inside, y, x] == bone
        frames, x, y = inside[own], x[own], y[own]
        ends = [SIZE * (p @ NEAR_K.T)[:, :2] / p[:, 2:] for p in (joints[frames, parent], joints[frames, child])]
        long = (ends[1] - ends[0]).norm(dim=-1) > 4
        direction = maps.direction[frames, :, y, x][long]
        assert torch.allclose(direction, torch.nn.functional.normalize(ends[1] - ends[0], dim=-1)[long], atol=1e-4)
        assert ((maps.along[frames, 0, y, x][long] - 0.5).abs() < 0.25).all()
        found += len(frames)
    assert found > 300


def test_nearness_is_the_depth_of_the_axis_within_the_radius() -> None:
    joints = skeletons(1, 1)
    joints[0, 4] = joints[0, 1] + torch.tensor([0.3, 0.0, -0.4])  # a thigh towards the camera
    maps, bone = drawn(joints, size=256), LIMBS.index((1, 4))
    shown = maps.front[0] == bone
    assert shown.sum() > 50
    depths = joints[0, 0, 2] - torch.stack([joints[0, 1, 2], joints[0, 4, 2]])
    nearness = maps.nearness[0, 0][shown]
    assert nearness.min() > depths.min() - 0.01 and nearness.max() < depths.max() + 0.04


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 10_000))
def test_the_front_bone_is_nearer_than_the_one_behind_it(seed: int) -> None:
    maps = drawn(skeletons(seed, 4))
    both = maps.second >= 0
    assert (maps.front[both] >= 0).all() and (maps.front != maps.second)[both].all()
    assert (maps.nearness[:, 0] >= maps.second_nearness[:, 0])[both].all()
    assert ((maps.front >= 0) == (maps.drawn >= 0)).all()


def test_only_the_3d_half_contains_the_order_in_depth() -> None:
    joints = skeletons(2, 200, depth=50.0)
    turned = joints.clone()
    turned[..., 2] = 100.0 - joints[..., 2]  # what was in front is behind
    one, other = drawn(joints, FAR_K), drawn(turned, FAR_K)
    assert (one.drawn == other.drawn).float().mean() > 0.97
    same = one.drawn == other.drawn
    differs = (one.direction - other.direction).norm(dim=1)[same] > 0.1  # that of bones seen end on is unstable
    assert differs.float().mean() < 0.01
    apart = (one.second >= 0) & ((one.nearness - one.second_nearness)[:, 0] > 0.1)  # no two bones at one joint
    assert apart.sum() > 1000
    assert (one.front == other.front)[apart].float().mean() < 0.1
    # a reader of the 2-D half can only guess which of two crossing bones is nearer
    assert 0.35 < (one.drawn == one.front)[apart].float().mean() < 0.65


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 10_000))
def test_a_rolled_camera_sees_the_rolled_map(seed: int) -> None:
    joints = skeletons(seed, 2)
    roll = torch.tensor([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])  # x to y: by 90 degrees, clockwise
    one, other = drawn(joints), drawn(joints @ roll.T)
    assert (one.front.rot90(-1, (1, 2)) == other.front).float().mean() > 0.99
    same = one.drawn.rot90(-1, (1, 2)) == other.drawn
    assert same.float().mean() > 0.99
    expected = torch.einsum("ij,fjhw->fihw", roll[:2, :2], one.direction.rot90(-1, (2, 3)))
    assert torch.allclose(expected.movedim(1, -1)[same], other.direction.movedim(1, -1)[same], atol=1e-3)
    assert torch.allclose(one.along.rot90(-1, (2, 3))[:, 0][same], other.along[:, 0][same], atol=1e-2)


def test_a_mirrored_person_gives_the_mirrored_map() -> None:
    joints = skeletons(3, 4)
    one, other = drawn(joints), drawn(joints * torch.tensor([-1.0, 1.0, 1.0]))
    same = one.drawn.flip(2) == other.drawn
    assert same.float().mean() > 0.99
    flipped = one.direction.flip(3) * torch.tensor([-1.0, 1.0])[:, None, None]
    assert torch.allclose(flipped.movedim(1, -1)[same], other.direction.movedim(1, -1)[same], atol=1e-3)


def test_what_is_not_labelled_or_behind_the_camera_is_not_drawn() -> None:
    joints = skeletons(4, 3)
    joints[1] = torch.nan
    joints[2, :, 2] -= 10.0
    ok = torch.tensor([True, False, True])
    maps = draw_bone_maps(joints, ok, torch.zeros(3, 2, dtype=torch.bool), NEAR_K.expand(3, 3, 3), SIZE, SIZE)
    assert all(torch.isfinite(x.float()).all() for x in maps)
    assert (maps.drawn[0] >= 0).any() and maps.drawn[0].max() <= 51
    assert not {bone for bone in maps.drawn[0].unique().tolist() if 21 <= bone < 51}  # no fingers
    assert (maps.drawn[1:] == -1).all() and not maps.nearness[1:].any() and not maps.normal[1:].any()


@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_thickness_is_that_of_no_person(factor: float) -> None:
    joints = skeletons(5, 1)
    scaled = factor * joints  # a person of another size at another distance, who looks the same
    one, other = drawn(joints, size=256), drawn(scaled, size=256)
    shown = [(maps.drawn >= 0).float().mean() for maps in (one, other)]
    assert (shown[0] - shown[1]) * (factor - 1) > 0  # radii are metres, so bones of larger people are thinner lines
    common = (one.drawn == other.drawn) & (one.drawn >= 0)
    assert torch.allclose(one.direction.movedim(1, -1)[common], other.direction.movedim(1, -1)[common], atol=1e-3)
