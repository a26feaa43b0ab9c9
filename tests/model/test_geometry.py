from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import roma
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from smplx import SMPLX

from opendimo.model.batch import Batch
from opendimo.model.body.load import load_body
from opendimo.model.body.rotations import matrix_to_6d, sixd_to_matrix
from opendimo.model.body.skeleton import FROM_SMPLX, JOINTS, SMPLX_JOINTS
from opendimo.model.geometry import (
    BODY_POINTS,
    HAND_POINTS,
    GeometryHead,
    PoseLabels,
    body_points,
    distance,
    geometry_loss,
    hand_points,
)


def predict(batch: Batch, offset: float = 0.0) -> tuple[torch.Tensor, torch.Tensor]:
    body, hands = (x + offset for x in (batch.driving.body6d, batch.driving.hands6d))
    return body.requires_grad_(), hands.requires_grad_()


def labelled(batch: Batch, *, body: bool, hands: bool, weight: list[float]) -> Batch:
    """Return the batch with all labels of a part, or none."""
    ok = {"pose_ok": torch.full((2, 9), body), "hands_pose_ok": torch.full((2, 9, 2), hands)}
    return replace(batch, weight=torch.tensor(weight), driving=replace(batch.driving, **ok))


def random_pose(seed: int) -> torch.Tensor:
    """Return a random pose of moderate angles, axis-angle [52, 3]."""
    return 0.5 * torch.randn(52, 3, generator=torch.Generator().manual_seed(seed))


def sixd(axis_angle: torch.Tensor) -> torch.Tensor:
    return matrix_to_6d(roma.rotvec_to_rotmat(axis_angle))


def test_poses_are_read_from_body_and_hand_tokens_separately() -> None:
    head = GeometryHead(body_tokens=5, hand_tokens=3, dim=16, width=32).eval()  # batch norm mixes samples in training
    with torch.no_grad():
        for mlp in (head.body, head.hand):
            mlp[-1].weight.normal_()
    tokens = torch.randn(2, 4, 11, 16)
    body, hands = head(tokens)
    assert body.shape == (2, 4, 21, 6) and hands.shape == (2, 4, 2, 15, 6)
    tokens[:, :, 8:] += 1  # the right hand
    body_after, hands_after = head(tokens)
    assert torch.equal(body_after, body) and torch.equal(hands_after[:, :, 0], hands[:, :, 0])
    assert not torch.equal(hands_after[:, :, 1], hands[:, :, 1])


def test_without_hand_tokens_no_hands_are_predicted_nor_asked_for(make_batch: Callable[..., Batch]) -> None:
    head, batch = GeometryHead(body_tokens=5, hand_tokens=0, dim=16, width=32), make_batch()
    body, hands = head(torch.randn(2, 9, 5, 16))
    assert body.shape == (2, 9, 21, 6) and hands is None
    bodies_only = replace(batch, driving=replace(batch.driving, hands_pose_ok=torch.zeros(2, 9, 2, dtype=torch.bool)))
    alone = geometry_loss(body, None, PoseLabels.of(batch), 1.0)
    both = geometry_loss(body, torch.randn(2, 9, 2, 15, 6), PoseLabels.of(bodies_only), 1.0)
    torch.testing.assert_close(alone, both)


def test_the_truth_costs_nothing(make_batch: Callable[..., Batch]) -> None:
    batch = make_batch()
    assert geometry_loss(*predict(batch), PoseLabels.of(batch), 1.0).abs() < 1e-8


@pytest.mark.parametrize("joints_weight", [0.0, 1.0])
def test_unlabelled_frames_give_no_gradient_even_where_labels_are_nan(
    make_batch: Callable[..., Batch], joints_weight: float
) -> None:
    batch = make_batch()
    driving, (body, hands) = batch.driving, predict(batch, 1.0)
    driving.body6d[~driving.pose_ok] = torch.nan
    driving.hands6d[~driving.hands_pose_ok] = torch.nan
    geometry_loss(body, hands, PoseLabels.of(batch), joints_weight).backward()
    seen = driving.hands_pose_ok & driving.hand_ok
    for part, ok in ((body, driving.pose_ok), (hands, seen)):
        felt = part.grad.abs().amax((-1, -2)) > 0
        assert torch.equal(felt, ok)
        assert 0 < ok.sum() < ok.numel()


def test_samples_count_by_their_quality(make_batch: Callable[..., Batch]) -> None:
    batch = labelled(make_batch(), body=True, hands=False, weight=[0.25, 0.75])
    body, hands = predict(batch)
    with torch.no_grad():
        body[0] += 2.0  # squared error 4 in the sample of weight 1/4
    torch.testing.assert_close(geometry_loss(body, hands, PoseLabels.of(batch), 0.0), torch.tensor(1.0))


def test_no_labels_at_all_cost_nothing(make_batch: Callable[..., Batch]) -> None:
    batch = labelled(make_batch(), body=True, hands=True, weight=[0.0, 0.0])
    loss = geometry_loss(*predict(batch, 1.0), PoseLabels.of(batch), 1.0)
    loss.backward()
    assert loss == 0


@pytest.fixture(scope="module")
def smplx_body() -> SMPLX:
    """Return the smplx package's model of the mannequin's file."""
    return load_body().layer


@given(st.integers(0, 10**6))
@settings(max_examples=10, deadline=None)
def test_joints_are_placed_as_smplx_places_those_of_the_mannequin(smplx_body: SMPLX, seed: int) -> None:
    pose, zero, body = random_pose(seed), torch.zeros(1, 3), smplx_body
    theirs = body(
        global_orient=zero, transl=zero, body_pose=pose[None, 1:22].flatten(1),
        left_hand_pose=torch.zeros(1, 45), right_hand_pose=torch.zeros(1, 45), betas=torch.zeros(1, body.num_betas),
    ).joints[0, BODY_POINTS]  # fmt: skip
    torch.testing.assert_close(from_first(body_points(sixd(pose[1:22]))), from_first(theirs), atol=1e-5, rtol=0)
    hands = pose[22:].unflatten(0, (2, 15))
    theirs = body(
        global_orient=zero, transl=zero, body_pose=torch.zeros(1, 63), left_hand_pose=hands[:1].flatten(1),
        right_hand_pose=hands[1:].flatten(1), betas=torch.zeros(1, body.num_betas),
    ).joints[0, HAND_POINTS]  # fmt: skip
    torch.testing.assert_close(hand_points(sixd(hands)), from_first(theirs), atol=1e-5, rtol=0)


def from_first(points: torch.Tensor) -> torch.Tensor:
    return points - points[..., :1, :]


def test_a_twist_of_a_limb_costs_rotation_but_does_not_move_the_joint_at_its_end() -> None:
    rest, still = body_points(sixd(torch.zeros(21, 3))), torch.zeros(21, 3)
    names = [SMPLX_JOINTS[j] for j in BODY_POINTS]
    for joint, end in (("left_shoulder", "left_elbow"), ("right_elbow", "right_wrist"), ("left_knee", "left_ankle")):
        axis = rest[names.index(end)] - rest[names.index(joint)]
        twisted, bent = still.clone(), still.clone()
        twisted[JOINTS.index(joint) - 1] = 0.8 * axis / axis.norm()
        bent[JOINTS.index(joint) - 1] = 0.8 * torch.linalg.cross(axis, torch.tensor([0.3, 0.5, 0.7])) / axis.norm()
        moved = distance(body_points(sixd(twisted)), rest)
        assert moved[names.index(end)] < 1e-5
        assert (sixd(twisted) - sixd(still)).square().mean() > 1e-3
        assert distance(body_points(sixd(bent)), rest)[names.index(end)] > 0.05


def test_every_rotation_of_the_body_but_that_of_the_toes_moves_a_joint() -> None:
    pose = sixd(random_pose(0)[1:22]).requires_grad_()
    (body_points(pose) * torch.randn(35, 3)).sum().backward()
    unseen = np.flatnonzero(pose.grad.abs().amax(-1) < 1e-6)
    assert [JOINTS[1 + j] for j in unseen] == ["left_foot", "right_foot"]


def test_the_joint_term_is_metres(make_batch: Callable[..., Batch]) -> None:
    """Both shoulders turned by a right angle: each joint of an arm moves by the square root of 2 of its distance."""
    batch = labelled(make_batch(), body=True, hands=False, weight=[1.0, 1.0])
    rest, raised = torch.zeros(2, 9, 21, 3), torch.zeros(2, 9, 21, 3)
    raised[:, :, [15, 16], 2] = torch.tensor([np.pi / 2, -np.pi / 2], dtype=torch.float32)
    batch = replace(batch, driving=replace(batch.driving, body6d=sixd(rest)))
    predicted = sixd(raised), batch.driving.hands6d, PoseLabels.of(batch)
    places = load_body().rest_joints(torch.zeros(10))
    moved = [j for j in BODY_POINTS if j in FROM_SMPLX and places[FROM_SMPLX.index(j), 0].abs() > 0.2]
    total = 0.0
    for j in moved:  # the axis is z: distances in x and y from the shoulder of its side
        place = places[FROM_SMPLX.index(j)]
        shoulder = places[16 if place[0] > 0 else 17]
        total += 2**0.5 * float((place - shoulder)[:2].norm())
    assert len(moved) == 14  # elbows, wrists, knuckles
    term = geometry_loss(*predicted, 1.0) - geometry_loss(*predicted, 0.0)
    assert float(term) == pytest.approx(total / 35, rel=0.01)


def test_a_fresh_head_predicts_the_rest_pose() -> None:
    body, hands = GeometryHead(body_tokens=5, hand_tokens=3, dim=16, width=32)(torch.randn(2, 4, 11, 16))
    assert torch.equal(sixd_to_matrix(body), torch.eye(3).expand(2, 4, 21, 3, 3))
    assert torch.equal(sixd_to_matrix(hands), torch.eye(3).expand(2, 4, 2, 15, 3, 3))
