"""Weights of errors in the training loss, with a stub model of given errors."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from opendimo.model.batch import Batch, Driving, Prediction
from opendimo.training.objective import Conditions, Terms, training_loss, with_text, without_some_hands

SHAPE = 2, 4, 3, 8, 8


class StubModel:
    """Model with the given squared errors [B, C, L, h, w], for zero target and zero noise."""

    def __init__(self, errors: Tensor, loss_weight: Tensor | None = None, *, first_is_given: bool = False) -> None:
        self.transformer = SimpleNamespace(first_frame_is_given=first_is_given)
        self.prediction = Prediction(errors.sqrt(), None, loss_weight, {})

    def __call__(self, *_: Any, **__: Any) -> Prediction:
        return self.prediction


def terms(model: StubModel, same_view: tuple[bool, bool] = (True, True)) -> Terms:
    none = torch.zeros(2, dtype=torch.bool)
    batch = Batch(
        target=torch.zeros(SHAPE),
        reference=torch.zeros(2, 4, 1, 8, 8),
        text=torch.zeros(2, 1, 1),
        text_ok=torch.ones(2, 1, dtype=torch.bool),
        weight=torch.ones(2),
        same_view=torch.tensor(same_view),
        driving=Driving.zeros(2, 9, 8, 8),
    )
    return training_loss(model, batch, Conditions(torch.zeros(2), torch.zeros(SHAPE), none, none, None), 0, 0)


def left_half() -> Tensor:
    """Return weights with mean 1 over 4 x 4 tokens, ten times as large on the left."""
    weight = torch.ones(2, 1, 3, 4, 4)
    weight[..., :2] = 10
    return weight / 5.5


def test_a_map_of_the_drivers_view_weighs_targets_in_that_view_only() -> None:
    errors = torch.zeros(SHAPE)
    errors[..., :4] = 1  # on the left
    both, one, none = (
        terms(StubModel(errors, left_half()), same_view) for same_view in ((True, True), (True, False), (False, False))
    )
    assert both.weighted_flow == pytest.approx(0.5 * 10 / 5.5)
    assert one.weighted_flow == pytest.approx((0.5 * 10 / 5.5 + 0.5) / 2)
    assert none.weighted_flow == pytest.approx(0.5)
    assert [result.flow for result in (both, one, none)] == [0.5] * 3
    assert all(result.loss == result.weighted_flow for result in (both, one, none))


@pytest.mark.parametrize("weighted", [False, True])
def test_a_given_frame_does_not_lower_the_mean_over_those_predicted(weighted: bool) -> None:
    errors = torch.ones(SHAPE)
    errors[:, :, 0] = 0
    weight = left_half() if weighted else None
    given, predicted = (terms(StubModel(errors, weight, first_is_given=first)) for first in (True, False))
    assert (float(given.loss), float(predicted.loss)) == pytest.approx((1, 2 / 3))


def test_weights_are_1_in_the_mean_over_frames_that_are_predicted() -> None:
    weight = left_half()
    weight[:, :, 0] = 0.1  # so the mean over the other frames exceeds 1
    assert terms(StubModel(torch.ones(SHAPE), weight, first_is_given=True)).loss == pytest.approx(1)


def test_a_dropped_text_is_replaced_by_the_empty_prompt_whatever_their_lengths() -> None:
    batch = Batch(
        target=torch.zeros(SHAPE),
        reference=torch.zeros(2, 4, 1, 8, 8),
        text=torch.ones(2, 2, 3),
        text_ok=torch.tensor([[True, True], [True, False]]),
        weight=torch.ones(2),
        same_view=torch.ones(2, dtype=torch.bool),
        driving=Driving.zeros(2, 9, 8, 8),
    )
    chosen = torch.tensor([True, False])
    for length in (1, 4):
        replaced = with_text(batch, chosen, torch.full((length, 3), 5.0))
        assert replaced.text_ok.sum(1).tolist() == [length, 1]
        assert torch.equal(replaced.text[0][replaced.text_ok[0]], torch.full((length, 3), 5.0))
        assert torch.equal(replaced.text[1][replaced.text_ok[1]], torch.ones(1, 3))


def test_hands_are_dropped_in_a_share_of_the_samples_at_rates_of_their_own() -> None:
    driving = Driving.zeros(1000, 40, 2, 2)
    driving = replace(driving, hand_ok=torch.ones(1000, 40, 2, dtype=torch.bool))
    kept = without_some_hands(driving, 0.5, range(1000)).hand_ok.float().mean((1, 2))
    changed = kept < 1
    assert changed.float().mean() == pytest.approx(0.5, abs=0.06)
    assert kept[changed].mean() == pytest.approx(0.5, abs=0.06) and kept[changed].std() > 0.25  # uniform: 0.29
    assert torch.equal(without_some_hands(driving, 0.0, range(1000)).hand_ok, driving.hand_ok)
    hidden = replace(driving, hand_ok=~driving.hand_ok)
    assert not without_some_hands(hidden, 0.5, range(1000)).hand_ok.any()
