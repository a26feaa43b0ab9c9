"""Several prompts and videos, embeddings of prompts, and callbacks, as in the pipelines of diffusers."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.callbacks import MultiPipelineCallbacks, PipelineCallback

from opendimo.model.dimo import DiMo
from opendimo.model.pipeline import DiMoPipeline
from tests.model.pipelines import sampled, tiny_pipeline

PROMPTS = ["The camera arcs left.", "The camera zooms in, slowly, while the sun sets."]


@pytest.fixture
def pipeline(family: str, tiny_bases: dict[str, Path], make_dimo: Callable[..., DiMo]) -> DiMoPipeline:
    return tiny_pipeline(tiny_bases[family], make_dimo(family=family, trained=True))


def seeded(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


@pytest.mark.parametrize("in_sequence", [False, True])
def test_each_prompt_and_each_seed_gives_the_video_that_it_gives_alone(
    in_sequence: bool, pipeline: DiMoPipeline
) -> None:
    arguments: dict[str, Any] = {"guidance_in_sequence": in_sequence, "negative_prompt": "Dark."}
    alone = [
        sampled(pipeline, prompt=prompt, generator=generator, **arguments)
        for prompt, generator in zip([PROMPTS[0]] * 2 + [PROMPTS[1]] * 2, seeded(0, 1, 2, 3), strict=True)
    ]
    together = sampled(pipeline, prompt=PROMPTS, num_videos_per_prompt=2, generator=seeded(0, 1, 2, 3), **arguments)
    torch.testing.assert_close(together, torch.cat(alone), rtol=1e-3, atol=1e-3)
    assert all((a - b).abs().max() > 0.01 for a, b in zip(together, together.roll(1, 0), strict=True))


def test_each_prompt_may_have_its_negative_prompt(pipeline: DiMoPipeline) -> None:
    noise = torch.randn(1, 8, 3, 8, 16, generator=torch.Generator().manual_seed(0))
    given: dict[str, Any] = {"prompt": [PROMPTS[0]] * 2, "latents": noise.repeat(2, 1, 1, 1, 1), "guidance_scale": 5}
    dark, light = sampled(pipeline, negative_prompt=["Dark.", "Light."], **given)
    one = sampled(pipeline, prompt=PROMPTS[0], latents=noise, guidance_scale=5, negative_prompt="Light.")
    torch.testing.assert_close(light, one[0], rtol=1e-3, atol=1e-3)
    assert (dark - light).abs().max() > 1e-3


def test_there_are_frames_for_each_video(pipeline: DiMoPipeline) -> None:
    arguments: dict[str, Any] = {"prompt": PROMPTS, "num_inference_steps": 1}
    assert sampled(pipeline, output_type="np", **arguments).shape == (2, 9, 32, 64, 3)
    images = sampled(pipeline, output_type="pil", **arguments)
    assert [[image.size for image in video] for video in images] == [[(64, 32)] * 9] * 2


def test_embeddings_are_taken_instead_of_prompts(pipeline: DiMoPipeline) -> None:
    (embeds, mask), (no_embeds, no_mask) = pipeline.encode_prompt(PROMPTS), pipeline.encode_prompt("Dark.")
    assert len(mask) == 2 and not mask.all()
    given = sampled(
        pipeline,
        prompt=None,
        prompt_embeds=embeds,
        prompt_embeds_mask=mask,
        negative_prompt_embeds=no_embeds,
        negative_prompt_embeds_mask=no_mask,
    )
    assert torch.equal(given, sampled(pipeline, prompt=PROMPTS, negative_prompt="Dark."))


class Cutoff(PipelineCallback):
    """Turn guidance off after a share of the steps, and exchange the prompts."""

    tensor_inputs = ("prompt_embeds", "latents")

    def callback_fn(self, pipeline: Any, step_index: int, timesteps: Any, callback_kwargs: Any) -> dict[str, Any]:
        assert set(callback_kwargs) == {"prompt_embeds", "latents"}
        if step_index == int(pipeline.num_timesteps * self.config.cutoff_step_ratio):
            pipeline._guidance_scale = pipeline._motion_guidance_scale = 1.0
            return {"prompt_embeds": callback_kwargs["prompt_embeds"].flip(0)}
        return callback_kwargs


@pytest.mark.parametrize("wrap", [lambda callback: callback, lambda callback: MultiPipelineCallbacks([callback])])
def test_a_callback_of_diffusers_changes_guidance_and_prompts(
    wrap: Callable[[Any], Any], tiny_base: Path, make_dimo: Callable[..., DiMo]
) -> None:
    pipeline = tiny_pipeline(tiny_base, make_dimo(trained=True))
    seen: list[torch.Tensor] = []
    pipeline.transformer.register_forward_pre_hook(lambda _, args: seen.append(args[2]))
    arguments: dict[str, Any] = {"guidance_scale": 5, "motion_guidance_scale": 2, "num_inference_steps": 4}
    sampled(pipeline, prompt=PROMPTS, callback_on_step_end=wrap(Cutoff(0.25)), **arguments)
    assert [len(text) for text in seen] == [6, 6, 2, 2]
    assert (pipeline.guidance_scale, pipeline.num_timesteps) == (1.0, 4)
    assert torch.equal(seen[2], seen[0][:2, : seen[2].shape[1]].flip(0))


def test_an_interrupted_call_skips_the_remaining_steps(tiny_base: Path, make_dimo: Callable[..., DiMo]) -> None:
    pipeline, steps = tiny_pipeline(tiny_base, make_dimo(trained=True)), []

    def stop(pipe: Any, step: int, t: torch.Tensor, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        steps.append((step, tensors["latents"]))
        pipe._interrupt = step == 1
        return {}

    latents = sampled(pipeline, num_inference_steps=4, callback_on_step_end=stop)
    assert [step for step, _ in steps] == [0, 1] and torch.equal(latents, steps[-1][1])
    assert pipeline.interrupt
    sampled(pipeline)
    assert not pipeline.interrupt
