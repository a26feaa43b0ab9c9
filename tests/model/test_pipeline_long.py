"""Videos longer than the model was trained on."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from opendimo.model.dimo import DiMo
from opendimo.model.pipeline import DiMoPipeline
from tests.model.pipelines import WINDOW, driving, sampled, tiny_pipeline

FRAMES = 41
"""Eleven latent frames, in windows of five."""


@pytest.fixture
def pipeline(tiny_base: Path, make_dimo: Callable[..., DiMo]) -> DiMoPipeline:
    return tiny_pipeline(tiny_base, make_dimo(trained=True), num_frames=17)


def test_a_long_video_comes_out_whole(pipeline: DiMoPipeline) -> None:
    frames = sampled(pipeline, num_frames=FRAMES, driving=driving(FRAMES), output_type="pt")
    assert frames.shape == (1, FRAMES, 3, 32, 64) and frames.isfinite().all()


def test_no_window_is_longer_than_in_training_and_each_has_the_reference(pipeline: DiMoPipeline) -> None:
    latents: list[torch.Tensor] = []
    pipeline.transformer.patch_embedding.register_forward_pre_hook(lambda _, args: latents.append(args[0][0].clone()))
    sampled(pipeline, num_frames=FRAMES, driving=driving(FRAMES))
    assert len(latents) == 2 * 3  # steps, windows
    assert {x.shape[1] for x in latents} == {1 + 5}
    assert all(torch.equal(x[:, 0], latents[0][:, 0]) for x in latents)


def test_each_window_hears_the_motion_of_its_frames_laid_out_as_in_training(pipeline: DiMoPipeline) -> None:
    bodies: list[torch.Tensor] = []
    pipeline.control.register_forward_pre_hook(lambda _, args: bodies.append(args[0].body))
    given = driving(FRAMES)
    sampled(pipeline, num_frames=FRAMES, driving=given, motion_guidance_scale=1)
    starts = [0, 3, 6]  # latent frames; a window from s > 0 covers frames 4 s .. 4 (s + 4)
    assert len(bodies) == 3
    assert all(torch.equal(x, given.body[:, 4 * s : 4 * s + 17]) for x, s in zip(bodies, starts, strict=True))


def test_one_window_that_covers_all_is_plain_sampling(
    pipeline: DiMoPipeline, tiny_base: Path, make_dimo: Callable[..., DiMo]
) -> None:
    plain = sampled(pipeline, num_frames=9)
    assert torch.equal(sampled(pipeline, num_frames=9, window_overlap=1), plain)
    longer = tiny_pipeline(tiny_base, make_dimo(trained=True), **WINDOW)
    assert torch.equal(sampled(longer, num_frames=9), plain)


def test_windows_that_agree_give_what_each_of_them_gives(
    tiny_base: Path, make_dimo: Callable[..., DiMo], pipeline: DiMoPipeline
) -> None:
    """Without attention over time or motion, the velocity does not depend on the windows."""
    for block in pipeline.transformer.blocks:
        torch.nn.init.zeros_(block.attn1.to_out[0].weight)
        torch.nn.init.zeros_(block.motion.to_out.weight)
    noise = torch.randn(1, 8, 11, 8, 16, generator=torch.Generator().manual_seed(0))
    arguments = {"num_frames": FRAMES, "driving": driving(FRAMES), "latents": noise}
    windowed = sampled(pipeline, **arguments)
    pipeline.register_to_config(num_frames=FRAMES)
    torch.testing.assert_close(windowed, sampled(pipeline, **arguments), rtol=1e-4, atol=1e-4)
