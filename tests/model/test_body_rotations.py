"""What fits and losses need of rotations, of `roma` and of the 6-D form: ways back, half turns, finite gradients."""

import hypothesis.extra.numpy as arrays
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from roma import rotmat_to_rotvec, rotvec_to_rotmat
from scipy.spatial.transform import Rotation

from opendimo.model.body.rotations import matrix_to_6d, sixd_to_matrix

vectors = arrays.arrays(np.float64, 3, elements=st.floats(-6, 6))


@given(vectors)
def test_axis_angle_to_matrix_agrees_with_scipy(vector):
    matrix = rotvec_to_rotmat(torch.from_numpy(vector)).numpy()
    np.testing.assert_allclose(matrix, Rotation.from_rotvec(vector).as_matrix(), atol=1e-9)


@given(vectors)
def test_axis_angle_survives_the_way_through_matrices(vector):
    matrix = rotvec_to_rotmat(torch.from_numpy(vector))
    back = rotmat_to_rotvec(matrix)
    assert back.norm() <= torch.pi + 1e-9
    torch.testing.assert_close(rotvec_to_rotmat(back), matrix, atol=1e-9, rtol=0)


@pytest.mark.parametrize("axis", [*np.eye(3).tolist(), [0.6, 0.8, 0.0], [0.48, -0.64, 0.6]])
def test_half_turns_have_an_axis(axis):
    half_turn = torch.pi * torch.tensor(axis, dtype=torch.float64)
    back = rotmat_to_rotvec(rotvec_to_rotmat(half_turn))
    torch.testing.assert_close(back.abs(), half_turn.abs(), atol=1e-6, rtol=0)


@given(vectors)
def test_matrices_survive_the_way_through_6d(vector):
    matrix = rotvec_to_rotmat(torch.from_numpy(vector))
    torch.testing.assert_close(sixd_to_matrix(matrix_to_6d(matrix)), matrix, atol=1e-12, rtol=0)


def test_6d_is_the_first_two_columns():
    matrix = torch.arange(9.0).reshape(3, 3)
    assert matrix_to_6d(matrix).tolist() == [0, 3, 6, 1, 4, 7]


@given(arrays.arrays(np.float64, 6, elements=st.floats(-2, 2)).filter(
    lambda v: np.linalg.norm(np.cross(v[:3], v[3:])) > 0.01
))  # fmt: skip
def test_any_two_independent_columns_make_a_rotation(sixd):
    matrix = sixd_to_matrix(torch.from_numpy(sixd))
    torch.testing.assert_close(matrix @ matrix.T, torch.eye(3, dtype=torch.float64), atol=1e-9, rtol=0)
    assert torch.det(matrix) > 0


@pytest.mark.parametrize("size", [0.0, 1e-9, 1e-4, 1e-3, 1.0])
def test_gradients_are_those_of_finite_differences_near_zero_too(size):
    vector = torch.full((3,), size, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(rotvec_to_rotmat, vector)
    assert torch.autograd.gradcheck(lambda v: rotmat_to_rotvec(rotvec_to_rotmat(v)), vector, atol=1e-4)
