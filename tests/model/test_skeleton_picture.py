"""Skeleton images show each bone between its joints."""

import numpy as np
import torch

from opendimo.model.body.skeleton import BONES, JOINTS
from opendimo.model.drawing.skeleton_picture import BODY_WIDTH, COLOURS, draw_skeleton

ELBOW = BONES.index((JOINTS.index("left_shoulder"), JOINTS.index("left_elbow")))


def drawn(start: tuple[float, float], end: tuple[float, float], strength: float = 1.0) -> torch.Tensor:
    """Draw only the left upper arm, in an image of 40 x 80."""
    joints, shown = torch.full((1, 52, 2), torch.nan), torch.zeros(1, len(BONES))
    joints[0, list(BONES[ELBOW])] = torch.tensor([start, end])
    shown[0, ELBOW] = strength
    return draw_skeleton(joints, shown, 40, 80)[0]


def test_a_bone_is_a_line_between_its_joints() -> None:
    picture = drawn((0.25, 0.5), (0.75, 0.5))
    lit = picture.amax(0) > 0
    rows, columns = (lit.any(axis).nonzero()[:, 0] for axis in (1, 0))
    assert (int(rows.min()), int(rows.max())) == (19, 20)
    assert abs(int(columns.min()) - 20) <= 1 and abs(int(columns.max()) - 59) <= 1
    assert BODY_WIDTH * 40 < 0.75  # the line has the minimum width


def test_its_colour_is_its_own_and_fades_with_its_strength() -> None:
    bright, faint = (drawn((0.2, 0.2), (0.8, 0.8), s).flatten(1).amax(1) for s in (1.0, 0.25))
    assert torch.allclose(bright, torch.tensor(COLOURS[ELBOW]), atol=1e-6)
    assert torch.allclose(faint, 0.25 * bright)


def test_nothing_is_drawn_where_no_bone_is_shown() -> None:
    assert not drawn((0.2, 0.2), (0.8, 0.8), 0.0).any()


def test_a_bone_outside_of_the_picture_does_not_show_at_its_edge() -> None:
    assert not drawn((1.2, 0.2), (1.4, 0.8)).any() and not drawn((-0.4, 0.2), (-0.2, 0.8)).any()


def test_later_bones_are_on_top() -> None:
    joints = torch.full((1, 52, 2), 0.5)
    joints[0, :, 0] = torch.linspace(0.1, 0.9, 52)  # all bones on one line
    picture = draw_skeleton(joints, torch.ones(1, len(BONES)), 40, 40)
    last = torch.tensor(COLOURS[50])
    x = float(joints[0, list(BONES[50]), 0].mean())
    assert torch.allclose(picture[0, :, 20, int(40 * x)], last, atol=1e-6)


def test_left_and_right_have_different_colours() -> None:
    sides = [(i, JOINTS[child]) for i, (_, child) in enumerate(BONES)]
    twins = [(i, j) for i, a in sides for j, b in sides if b == a.replace("left_", "right_") and i != j]
    assert len(twins) == 8 + 15
    assert all(np.abs(np.subtract(COLOURS[i], COLOURS[j])).max() > 0.5 for i, j in twins)
