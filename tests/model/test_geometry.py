from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from model.batch import Batch, Prediction
from model.geometry import GeometryHead, geometry_loss


def predict(batch: Batch, offset: float = 0.0) -> Prediction:
    body, hands = (batch.body6d + offset).requires_grad_(), (batch.hands6d + offset).requires_grad_()
    return Prediction(batch.target, body, hands)


def test_poses_are_read_from_body_and_hand_tokens_separately() -> None:
    head = GeometryHead(body_tokens=5, hand_tokens=3, dim=16, width=32)
    tokens = torch.randn(2, 4, 11, 16)
    body, hands = head(tokens)
    assert body.shape == (2, 4, 21, 6) and hands.shape == (2, 4, 2, 15, 6)
    tokens[:, :, 8:] += 1  # the right hand
    body_after, hands_after = head(tokens)
    assert torch.equal(body_after, body) and torch.equal(hands_after[:, :, 0], hands[:, :, 0])
    assert not torch.equal(hands_after[:, :, 1], hands[:, :, 1])


def test_the_truth_costs_nothing(make_batch: Callable[..., Batch]) -> None:
    batch = make_batch()
    assert geometry_loss(predict(batch), batch) == 0


def test_unlabelled_frames_give_no_gradient_even_where_labels_are_nan(make_batch: Callable[..., Batch]) -> None:
    batch = make_batch()
    prediction = predict(batch, 1.0)
    batch.body6d[~batch.pose_ok] = torch.nan
    batch.hands6d[~batch.hands_pose_ok] = torch.nan
    geometry_loss(prediction, batch).backward()
    for part, ok in ((prediction.body6d, batch.pose_ok), (prediction.hands6d, batch.hands_pose_ok)):
        felt = part.grad.abs().amax((-1, -2)) > 0
        assert torch.equal(felt, ok)
        assert 0 < ok.sum() < ok.numel()


def test_samples_count_by_their_quality(make_batch: Callable[..., Batch]) -> None:
    batch = replace(make_batch(), weight=torch.tensor([0.25, 0.75]))
    every = {"pose_ok": torch.ones(2, 9, dtype=torch.bool), "hands_pose_ok": torch.zeros(2, 9, 2, dtype=torch.bool)}
    prediction = predict(batch)
    with torch.no_grad():
        prediction.body6d[0] += 2.0  # squared error 4 in the sample of weight 1/4
    torch.testing.assert_close(geometry_loss(prediction, replace(batch, **every)), torch.tensor(1.0))


def test_no_labels_at_all_cost_nothing(make_batch: Callable[..., Batch]) -> None:
    batch = replace(make_batch(), weight=torch.zeros(2))
    loss = geometry_loss(predict(batch, 1.0), batch)
    loss.backward()
    assert loss == 0


def test_without_a_head_there_is_no_loss(make_batch: Callable[..., Batch]) -> None:
    with pytest.raises(ValueError, match="no geometry head"):
        geometry_loss(Prediction(torch.zeros(1), None, None), make_batch())
