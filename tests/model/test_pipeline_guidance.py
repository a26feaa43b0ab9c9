"""Classifier-free guidance over text and motion, and its number of evaluations."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from opendimo.model.dimo import DiMo
from opendimo.model.pipeline import DiMoPipeline
from opendimo.model.pipeline.guidance import evaluations
from opendimo.model.pipeline.prompts import Prompts
from opendimo.model.signal import Grid
from tests.model.pipelines import driving, sampled, tiny_pipeline

SCALES = [((1.0, 1.0), 1), ((5.0, 1.0), 2), ((1.0, 2.0), 2), ((5.0, 2.0), 3)]
"""Scales of text and motion, and their number of evaluations per step."""


@pytest.fixture
def pipeline(tiny_base: Path, make_dimo: Callable[..., DiMo]) -> DiMoPipeline:
    return tiny_pipeline(tiny_base, make_dimo(trained=True))


def guided(pipeline: DiMoPipeline, text: float, motion: float, **changes: Any) -> torch.Tensor:
    return sampled(pipeline, guidance_scale=text, motion_guidance_scale=motion, **changes)


def test_at_scale_zero_what_remains_is_the_prediction_without(pipeline: DiMoPipeline) -> None:
    assert torch.equal(guided(pipeline, 1, 0), guided(pipeline, 1, 0, driving=driving(seed=1)))
    assert torch.equal(guided(pipeline, 0, 1), guided(pipeline, 0, 1, prompt="The camera arcs up."))


def test_a_step_is_linear_in_both_scales(pipeline: DiMoPipeline) -> None:
    points = {
        (s, m): guided(pipeline, s, m, num_inference_steps=1)
        for s, m in ((1.0, 1.0), (4.0, 1.0), (1.0, 3.0), (4.0, 3.0))
    }
    expected = points[4.0, 1.0] + points[1.0, 3.0] - points[1.0, 1.0]
    torch.testing.assert_close(points[4.0, 3.0], expected, rtol=1e-3, atol=1e-3)
    assert (points[4.0, 1.0] - points[1.0, 1.0]).abs().max() > 1e-3


def test_a_negative_prompt_takes_the_place_of_no_text(pipeline: DiMoPipeline) -> None:
    same = guided(pipeline, 5, 1, negative_prompt="The camera arcs left.")
    torch.testing.assert_close(same, guided(pipeline, 1, 1), rtol=1e-3, atol=1e-3)
    assert (guided(pipeline, 5, 1, negative_prompt="Dark, with much text, and longer.") - same).abs().max() > 1e-3


@pytest.mark.parametrize(("scales", "rows"), SCALES)
def test_each_guidance_costs_one_evaluation_more(
    scales: tuple[float, float], rows: int, pipeline: DiMoPipeline
) -> None:
    batch_sizes: list[int] = []
    pipeline.transformer.patch_embedding.register_forward_pre_hook(lambda _, args: batch_sizes.append(len(args[0])))
    guided(pipeline, *scales)
    assert batch_sizes == [rows, rows]
    batch_sizes.clear()
    guided(pipeline, *scales, guidance_in_sequence=True)
    assert batch_sizes == [1] * (2 * rows)


@pytest.mark.parametrize("scales", [scales for scales, _ in SCALES])
def test_evaluations_in_sequence_give_the_same(scales: tuple[float, float], pipeline: DiMoPipeline) -> None:
    batched, one_by_one = (guided(pipeline, *scales, guidance_in_sequence=switch) for switch in (False, True))
    torch.testing.assert_close(one_by_one, batched, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("control", "scale", "expected"),
    [("implicit", 1, [True]), ("implicit", 2, [True]), ("pose2d", 1, [True]), ("pose2d", 2, [True, False])],
)
def test_a_control_is_asked_what_no_motion_is_only_where_it_adds_to_video_tokens(
    control: str, scale: float, expected: list[bool], tiny_base: Path, make_dimo: Callable[..., DiMo]
) -> None:
    pipeline = tiny_pipeline(tiny_base, make_dimo(trained=True, control=control))
    present: list[bool] = []
    pipeline.control.register_forward_pre_hook(lambda _, args: present.append(bool(args[1])))
    guided(pipeline, 5, scale)
    assert present == expected


def test_motion_that_is_guided_away_from_is_marked_absent(tiny_base: Path, make_dimo: Callable[..., DiMo]) -> None:
    control = make_dimo(trained=True).control
    text = Prompts(torch.zeros(1, 3, 32), torch.ones(1, 3, dtype=torch.bool))
    branches = evaluations(
        text,
        text,
        lambda present: control(driving(), torch.tensor([present]), Grid(3, 4, 8, 32)),
        text_scale=1,
        motion_scale=3,
        in_sequence=True,
    )
    assert [(bool(branch.signal.motion.present), branch.weights) for branch in branches] == [
        (True, (3,)),
        (False, (-2,)),
    ]
