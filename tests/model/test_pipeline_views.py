"""Several views at once: windows over views and time, and the pipeline."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from opendimo.model.config import DiMoConfig
from opendimo.model.dimo import DiMo
from opendimo.model.multiview.attention import ViewAttention
from opendimo.model.multiview.paths import Orbit
from opendimo.model.pipeline.multiview import MultiViewPipeline
from opendimo.model.pipeline.windows import grid_windows
from tests.model.pipelines import driving, picture, sampled, tiny_pipeline


@given(st.integers(1, 12), st.integers(1, 40), st.integers(1, 14), st.integers(2, 9), st.data())
def test_every_round_covers_every_cell_with_weights_that_sum_to_one(
    videos: int, length: int, together: int, size: int, data: st.DataObject
) -> None:
    rounds = grid_windows(videos, length, together, size, data.draw(st.integers(1, size - 1)))
    for windows in rounds:
        total = torch.zeros(videos, length)
        for window in windows:
            assert len(set(window.videos)) == len(window.videos) == min(together, videos)
            assert window.span[1] - window.span[0] <= size
            total[window.videos, slice(*window.span)] += window.weights
        assert torch.allclose(total, torch.ones_like(total), atol=1e-5)


def test_groups_of_views_shift_around_the_circle() -> None:
    rounds = [[window.videos for window in windows] for windows in grid_windows(8, 3, 4, 3, 1)]
    assert rounds == [[[0, 1, 2, 3], [4, 5, 6, 7]], [[2, 3, 4, 5], [6, 7, 0, 1]]]
    with pytest.raises(ValueError, match="0 videos at a time"):
        grid_windows(8, 3, 0, 3, 1)


@pytest.fixture
def viewer(tiny_bases: dict[str, Path]) -> MultiViewPipeline:
    """A random model of one block that draws bone maps and lets views attend to each other."""
    torch.manual_seed(0)
    model = DiMo.from_base(tiny_bases["wan"], replace(DiMoConfig.tiny(), control="hvg_pose", view_attention=True))
    for parameter in model.control.outs.parameters():
        torch.nn.init.normal_(parameter, std=0.02)
    for module in model.modules():
        if isinstance(module, ViewAttention):
            torch.nn.init.normal_(module.to_out.weight, std=0.2)
    pipeline = MultiViewPipeline.of(tiny_pipeline(tiny_bases["wan"], model))
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def views(pipeline: MultiViewPipeline, cameras: Any, **changes: Any) -> torch.Tensor:
    size = len(cameras)
    noise = torch.randn(size, 8, 3, 8, 16, generator=torch.Generator().manual_seed(0))
    arguments = {"latents": noise, "num_inference_steps": 2, "output_type": "latent", **changes}
    return pipeline(picture(), driving(), cameras, "A person.", **arguments).frames


def test_one_camera_is_the_plain_pipeline(viewer: MultiViewPipeline, tiny_bases: dict[str, Path]) -> None:
    from opendimo.model.pipeline import DiMoPipeline

    settings = {name: viewer.config[name] for name in ("num_frames", "height", "width")}
    plain = DiMoPipeline(**viewer.components, **settings)
    plain.set_progress_bar_config(disable=True)
    noise = torch.randn(1, 8, 3, 8, 16, generator=torch.Generator().manual_seed(0))
    expected = sampled(plain, prompt="A person.", latents=noise)
    assert torch.equal(views(viewer, Orbit(1)), expected)


class Chosen:
    """Some cameras of an orbit of four."""

    def __init__(self, order: list[int]) -> None:
        self.order = order

    def __len__(self) -> int:
        return len(self.order)

    def around(self, person: np.ndarray) -> list[np.ndarray]:
        cameras = Orbit(4).around(person)
        return [cameras[k] for k in self.order]


def test_cameras_in_another_order_give_the_videos_in_that_order(viewer: MultiViewPipeline) -> None:
    straight = views(viewer, Chosen([0, 1, 2]))
    noise = torch.randn(3, 8, 3, 8, 16, generator=torch.Generator().manual_seed(0))
    turned = views(viewer, Chosen([2, 0, 1]), latents=noise[[2, 0, 1]])
    assert torch.allclose(turned, straight[[2, 0, 1]], atol=1e-4)


def test_each_camera_changes_its_video_and_those_generated_with_it(viewer: MultiViewPipeline) -> None:
    one, other = views(viewer, Chosen([0, 1, 2])), views(viewer, Chosen([0, 1, 3]))
    assert not any(torch.equal(a, b) for a, b in zip(one, other, strict=True))
    alone = [views(viewer, Chosen([0, 1, k]), views_at_once=1) for k in (2, 3)]
    assert [torch.equal(a, b) for a, b in zip(*alone, strict=True)] == [True, True, False]


def test_an_oracle_is_recovered_from_groups_that_shift(viewer: MultiViewPipeline) -> None:
    answer = torch.randn(1, 8, 7, 8, 16, generator=torch.Generator().manual_seed(1))

    def velocity(latents: torch.Tensor, timestep: torch.Tensor, *_: Any, **__: Any) -> tuple[torch.Tensor]:
        # the same answer in all windows: a still one
        return ((latents - answer[:, :, :1]) / (timestep.view(-1, 1, 1, 1, 1) / 1000),)

    viewer.transformer.forward = velocity
    noise = torch.randn(5, 8, 7, 8, 16, generator=torch.Generator().manual_seed(0))
    arguments = {"num_frames": 25, "views_at_once": 2, "num_inference_steps": 4, "output_type": "latent"}
    found = viewer(picture(), driving(25), Orbit(5), "A person.", latents=noise, **arguments).frames
    assert torch.allclose(found, answer[:, :, :1].expand_as(found), atol=1e-4)


def test_a_model_that_reads_no_camera_is_refused(tiny_bases: dict[str, Path], make_dimo: Any) -> None:
    with pytest.raises(ValueError, match="cannot choose a camera"):
        MultiViewPipeline.of(tiny_pipeline(tiny_bases["wan"], make_dimo()))
