"""Regions of the picture around labelled joints."""

from dataclasses import replace

import pytest
import torch

from opendimo.model.batch import Driving
from opendimo.model.driving.crops import HAND_JOINTS
from opendimo.model.driving.regions import HEAD, NECK, REGIONS, around, latent_regions


@pytest.fixture
def person() -> Driving:
    """A person in five frames: head at the top, one hand at the left edge, feet at the bottom."""
    driving = Driving.zeros(1, 5, 8, 8)
    joints = torch.zeros(1, 5, 52, 3)
    joints[..., :2] = torch.tensor([0.5, 0.6])
    joints[:, :, 10, :2] = torch.tensor([0.5, 0.95])  # a foot
    joints[:, :, NECK, :2], joints[:, :, HEAD, :2] = torch.tensor([0.5, 0.3]), torch.tensor([0.5, 0.25])
    joints[:, :, list(HAND_JOINTS[0]), :2] = torch.tensor([0.1, 0.5]) + 0.01 * torch.rand(16, 2)
    joints[..., 2] = 1
    known = torch.ones(1, 5, dtype=torch.bool)
    return replace(driving, joints_2d=joints, pose_ok=known, hands_pose_ok=known[..., None].expand(1, 5, 2).clone())


def test_every_cell_of_a_labelled_frame_is_in_one_region(person: Driving) -> None:
    regions = latent_regions(person, 2, 20, 20, 4)
    assert regions.shape == (len(REGIONS), 1, 2, 20, 20)
    assert (regions.sum(0) == 1).all()
    face, hands, body, background = regions[:, 0, 1]
    assert face[4, 10] and not face[10, 10]
    assert hands[10, 2] and hands.sum() < 16
    assert body[17, 10] and body[10, 6]
    assert background[0, 0] and background[4, 19]


def test_frames_without_a_label_are_in_no_region(person: Driving) -> None:
    regions = latent_regions(replace(person, pose_ok=torch.tensor([[True, *[False] * 4]])), 2, 8, 8, 4)
    assert regions[:, :, 0].any() and not regions[:, :, 1].any()


def test_a_hand_that_is_not_labelled_is_body(person: Driving) -> None:
    unknown = torch.zeros_like(person.hands_pose_ok)
    regions = latent_regions(replace(person, hands_pose_ok=unknown), 2, 20, 20, 4)
    assert not regions[1].any() and regions[2, 0, 1, 10, 2]


def test_a_part_moving_within_a_latent_frame_covers_its_path(person: Driving) -> None:
    joints = person.joints_2d.clone()
    joints[:, 1:, :, 0] += torch.tensor([0.0, 0.1, 0.2, 0.3])[None, :, None]
    still, moving = (latent_regions(replace(person, joints_2d=j), 2, 20, 20, 4) for j in (person.joints_2d, joints))
    assert moving[0, 0, 1].sum() > still[0, 0, 1].sum()
    assert torch.equal(moving[:, :, 0], still[:, :, 0])


def test_cells_are_those_that_the_box_touches() -> None:
    points = torch.tensor([[0.25, 0.5], [0.5, 0.75]])[None, None]
    cells = around(points, torch.tensor([[True]]), 0.0, 4, 4)[0, 0]
    assert cells.nonzero().tolist() == [[2, 1]]
    assert not around(points, torch.tensor([[False]]), 0.0, 4, 4).any()
