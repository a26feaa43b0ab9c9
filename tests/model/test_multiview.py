"""Cameras of targets: rays, attention across views, and models that read them."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from opendimo.model.batch import Batch, Driving
from opendimo.model.config import DiMoConfig
from opendimo.model.dimo import DiMo, with_cameras
from opendimo.model.multiview.attention import ViewAttention, ViewContext
from opendimo.model.multiview.cameras import in_target
from opendimo.model.multiview.rays import token_rays
from opendimo.model.signal import Grid, Signal
from tests.model.pipelines import driving

GRID = Grid(3, 4, 6, 64)
STRIDE = 4


def filmed(seed: int, scale: float = 1.0) -> Driving:
    """Return driving inputs whose targets have random cameras, and lengths multiplied by `scale`."""
    rng = np.random.default_rng(seed)
    one = driving(9, seed)
    rotation = Rotation.from_rotvec(rng.normal(size=(9, 3))).as_matrix()
    moved = np.concatenate([rotation, scale * rng.normal(size=(9, 3, 1))], axis=2)
    K = np.array([[rng.uniform(0.7, 2), 0, 0.45], [0, rng.uniform(0.7, 2), 0.55], [0, 0, 1]])
    return replace(
        one,
        joints_3d=scale * one.joints_3d,
        target_from_driver=torch.from_numpy(moved.astype(np.float32))[None],
        target_K=torch.from_numpy(K.astype(np.float32)).expand(1, 9, 3, 3),
    )


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000))
def test_a_point_that_a_token_sees_lies_on_its_ray(seed: int) -> None:
    inputs, rng = filmed(seed), np.random.default_rng(seed)
    rays = token_rays(inputs, GRID, STRIDE).double().numpy().reshape(3, 4, 6, 6)
    frame, y, x = rng.integers(3), rng.integers(4), rng.integers(6)
    video_frame = 4 * frame  # the last one that the latent frame encodes
    camera, K = (z[0, video_frame].double().numpy() for z in (inputs.target_from_driver, inputs.target_K))
    seen = rng.uniform(0.5, 9) * np.linalg.inv(K) @ [(x + 0.5) / 6, (y + 0.5) / 4, 1]  # in the target's camera
    point = np.linalg.inv(camera[:, :3]) @ (seen - camera[:, 3])
    person = inputs.joints_3d[0, :, 0].double().numpy().mean(axis=0)
    point = (point - person) / np.linalg.norm(person)
    direction, moment = rays[frame, y, x, :3], rays[frame, y, x, 3:]
    assert np.linalg.norm(direction) == pytest.approx(1, abs=1e-6)
    assert np.allclose(np.cross(point, direction), moment, atol=1e-4)
    assert direction @ (np.linalg.inv(camera[:, :3]) @ (seen / np.linalg.norm(seen))) == pytest.approx(1, abs=1e-5)


def test_rays_do_not_depend_on_the_unit_of_length() -> None:
    assert torch.allclose(token_rays(filmed(3), GRID, STRIDE), token_rays(filmed(3, 2.5), GRID, STRIDE), atol=1e-5)


def test_there_are_no_rays_of_an_unknown_camera() -> None:
    known = filmed(4)
    unknown = replace(known, target_ok=torch.zeros_like(known.target_ok))
    nobody = replace(known, pose_ok=torch.zeros_like(known.pose_ok))
    for inputs in (unknown, nobody):
        assert not token_rays(inputs, GRID, STRIDE).any()


def test_joints_are_moved_into_the_camera_of_the_target() -> None:
    inputs = filmed(5)
    rng = np.random.default_rng(0)
    to_driver = np.concatenate([Rotation.from_rotvec([0.2, -0.5, 0.1]).as_matrix(), [[0.3], [0.1], [4.0]]], axis=1)
    world = rng.normal(size=(9, 52, 3))
    in_driver = world @ to_driver[:, :3].T + to_driver[:, 3]
    moved = inputs.target_from_driver[0].double().numpy()
    to_target = [m[:, :3] @ np.concatenate([to_driver[:, :3], to_driver[:, 3:]], axis=1) for m in moved]
    expected = np.stack([w @ t[:, :3].T + t[:, 3] + m[:, 3] for w, t, m in zip(world, to_target, moved, strict=True)])
    inputs = replace(inputs, joints_3d=torch.from_numpy(in_driver.astype(np.float32))[None])
    assert np.allclose(in_target(inputs).joints_3d[0], expected, atol=1e-4)
    assert not in_target(replace(inputs, target_ok=torch.zeros_like(inputs.target_ok))).pose_ok.any()


@pytest.fixture
def attention() -> ViewAttention:
    torch.manual_seed(0)
    layer = ViewAttention(32, 4)
    torch.nn.init.normal_(layer.to_out.weight)
    torch.nn.init.normal_(layer.rays.weight)
    return layer


def inputs_of(samples: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    return torch.randn(samples, 3 * 5, 32, generator=g), torch.randn(samples, 3 * 5, 6, generator=g)


def test_views_are_permuted_with_their_inputs(attention: ViewAttention) -> None:
    tokens, rays = inputs_of(3)
    out = attention(tokens, ViewContext(3, 3, rays))
    order = [2, 0, 1]
    assert torch.allclose(attention(tokens[order], ViewContext(3, 3, rays[order])), out[order], atol=1e-5)


def test_attention_is_within_a_group_and_a_latent_frame_only(attention: ViewAttention) -> None:
    tokens, rays = inputs_of(4)
    tokens.requires_grad_()
    out = attention(tokens, ViewContext(2, 3, rays))
    out[0, 5:10].sum().backward()  # the second latent frame of the first view of the first group
    reached = tokens.grad.abs().sum(-1) > 0
    assert reached[:2, 5:10].all()
    reached[:2, 5:10] = False
    assert not reached.any()


def test_rays_change_where_to_look(attention: ViewAttention) -> None:
    tokens, rays = inputs_of(2)
    assert not torch.allclose(attention(tokens, ViewContext(2, 3, rays)), attention(tokens, ViewContext(2, 3, -rays)))


@pytest.mark.parametrize("family", ["wan", "hunyuan"])
@pytest.mark.parametrize("changes", [{"camera_rays": True}, {"view_attention": True}])
def test_a_fresh_model_that_reads_cameras_equals_one_that_does_not(
    family: str, changes: dict[str, Any], tiny_bases: dict[str, Path], make_batch: Callable[..., Batch]
) -> None:
    batch = make_batch(4)
    arguments = {"sigma": torch.full((4,), 0.7), "noise": torch.randn(batch.target.shape), "augment_seeds": None}
    results = []
    for config in (DiMoConfig.tiny(), replace(DiMoConfig.tiny(), **changes)):
        torch.manual_seed(0)
        model = DiMo.from_base(tiny_bases[family], config).eval()
        results.append(model(batch, **arguments, drop_motion=torch.zeros(4, dtype=torch.bool), views=2).velocity)
    assert torch.equal(*results)


@pytest.mark.parametrize("family", ["wan", "hunyuan"])
def test_views_see_each_other_once_trained(
    family: str, tiny_bases: dict[str, Path], make_batch: Callable[..., Batch], tmp_path: Path
) -> None:
    model = DiMo.from_base(tiny_bases[family], replace(DiMoConfig.tiny(), view_attention=True)).eval()
    for module in model.modules():
        if isinstance(module, ViewAttention):
            torch.nn.init.normal_(module.to_out.weight)
    model.save(tmp_path)
    model = DiMo.load(tmp_path).eval()
    batch = make_batch(4)
    arguments = {"sigma": torch.full((4,), 0.7), "augment_seeds": None, "drop_motion": torch.zeros(4, dtype=torch.bool)}
    noise = torch.randn(batch.target.shape)
    other = noise.clone()
    other[1] += 1
    for views, changed in ((2, [True, True, False, False]), (1, [False, True, False, False])):
        before, after = (model(batch, noise=x, **arguments, views=views).velocity for x in (noise, other))
        assert [not torch.allclose(a, b, atol=1e-6) for a, b in zip(before, after, strict=True)] == changed


def test_attention_across_views_needs_rays(tiny_bases: dict[str, Path], make_batch: Callable[..., Batch]) -> None:
    model = DiMo.from_base(tiny_bases["wan"], replace(DiMoConfig.tiny(), view_attention=True))
    batch = make_batch(2)
    grid = model.transformer.grid(batch.target)
    with pytest.raises(ValueError, match="needs the rays"):
        model.transformer.block_conditioning(Signal(), grid, 1)
    signal = with_cameras(Signal(), model.transformer, batch.driving, grid, 2)
    assert model.transformer.block_conditioning(signal, grid, 1).views.frames == 1 + grid.frames
