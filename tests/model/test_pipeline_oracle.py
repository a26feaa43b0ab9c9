"""Sampling with an oracle velocity recovers its target for all windows, guidance, references and schedulers."""

from itertools import cycle
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, UniPCMultistepScheduler
from torch import Tensor

from opendimo.model.pipeline import DiMoPipeline
from opendimo.model.pipeline.pictures import fitted
from opendimo.model.pipeline.windows import Span
from opendimo.model.vae import encode
from tests.model.pipelines import driving, picture, sampled, tiny_pipeline

SCHEDULERS = {
    "euler": FlowMatchEulerDiscreteScheduler(shift=3.0),
    "unipc": UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0),
}
ONE: list[Span] = [(0, 3)]
THREE: list[Span] = [(0, 3), (2, 5), (4, 7)]
"""Windows of three latent frames, of 9 and of 25 frames."""


def knows(pipeline: DiMoPipeline, answer: Tensor, spans: list[Span]) -> list[float]:
    """Replace the transformer by an oracle; return the list of the sigmas at which it is evaluated.

    Its velocity is (x - x0) / sigma, which is noise - x0 on the path from noise to x0 [1, C, L, h, w]. Windows are
    evaluated one after another; UniPC rounds timesteps down.
    """
    windows, sigmas = cycle(spans), []

    def velocity(latents: Tensor, timestep: Tensor, *_: Any, **__: Any) -> tuple[Tensor]:
        start, stop = next(windows)
        sigma = float(pipeline.scheduler.sigmas[len(sigmas) // len(spans)])
        assert timestep.tolist() == pytest.approx([1000 * sigma] * 3, abs=1)  # three evaluations, guided
        sigmas.append(sigma)
        return ((latents - answer[:, :, start:stop]) / sigma,)

    pipeline.transformer.forward = velocity
    return sigmas


@pytest.mark.parametrize("scheduler", SCHEDULERS)
@pytest.mark.parametrize(
    ("reference", "spans"), [("prefix", ONE), ("prefix", THREE), ("first_frame", ONE)], ids=["one", "three", "first"]
)
def test_an_oracle_velocity_recovers_the_answer(
    reference: str, spans: list[Span], scheduler: str, family: str, tiny_bases: dict[str, Path], make_dimo: Any
) -> None:
    pipeline = tiny_pipeline(tiny_bases[family], make_dimo(family=family, reference=reference))
    pipeline.scheduler = SCHEDULERS[scheduler]
    length = spans[-1][1]
    answer = torch.randn(1, 8, length, 8, 16, generator=torch.Generator().manual_seed(1))
    if pipeline.transformer.first_frame_is_given:
        answer[:, :, :1] = encode(pipeline.vae, fitted(picture(), 32, 64)).detach()
    sigmas = knows(pipeline, answer, spans)
    frames = 4 * length - 3
    latents = sampled(pipeline, num_inference_steps=6, num_frames=frames, driving=driving(frames), window_overlap=1)
    assert len(sigmas) == 6 * len(spans) and sigmas[0] == pytest.approx(1, abs=1e-5)
    torch.testing.assert_close(latents, answer, rtol=1e-4, atol=1e-4)
