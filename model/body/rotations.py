"""Rotations in torch: axis-angle, matrices, and the continuous 6-D form of Zhou et al. (CVPR 2019).

Axis-angle `[..., 3]` in radians, matrices `[..., 3, 3]` acting on column vectors, 6-D `[..., 6]` = the first two
columns of the matrix, one after the other. Gradients are finite wherever the function is smooth, including at zero.
"""

import torch
from torch import Tensor
from torch.nn.functional import normalize, pad


def axis_angle_to_matrix(axis_angle: Tensor) -> Tensor:
    """Convert axis-angle to matrices by Rodrigues' formula. [..., 3] radians -> [..., 3, 3]."""
    squared = (axis_angle**2).sum(-1)[..., None, None]
    small = squared < 1e-6
    angle = torch.where(small, torch.ones_like(squared), squared).sqrt()  # never sqrt(0): its gradient is infinite
    sine = torch.where(small, 1 - squared / 6, angle.sin() / angle)
    cosine = torch.where(small, 0.5 - squared / 24, (1 - angle.cos()) / angle**2)
    x, y, z = axis_angle.unbind(-1)
    zero = torch.zeros_like(x)
    cross = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).unflatten(-1, (3, 3))
    return torch.eye(3, dtype=x.dtype, device=x.device) + sine * cross + cosine * (cross @ cross)


def matrix_to_axis_angle(matrix: Tensor) -> Tensor:
    """Convert matrices to axis-angle with an angle in [0, pi]. [..., 3, 3] -> [..., 3] radians."""
    w, xyz = _quaternion(matrix)
    squared = (xyz**2).sum(-1, keepdim=True)
    small = squared < 1e-12
    sine = torch.where(small, torch.ones_like(squared), squared).sqrt()  # of half the angle
    scale = torch.where(small, 2 / w.clamp(min=0.5), 2 * torch.atan2(sine, w) / sine)
    return xyz * scale


def matrix_to_6d(matrix: Tensor) -> Tensor:
    """Return the first two columns of matrices. [..., 3, 3] -> [..., 6]."""
    return matrix[..., :2].transpose(-1, -2).flatten(-2)


def sixd_to_matrix(sixd: Tensor) -> Tensor:
    """Orthonormalise the two columns (Gram-Schmidt). [..., 6], any two independent vectors -> [..., 3, 3] rotations."""
    first, second = sixd.unflatten(-1, (2, 3)).unbind(-2)
    x = normalize(first, dim=-1)
    y = normalize(second - (x * second).sum(-1, keepdim=True) * x, dim=-1)
    return torch.stack([x, y, torch.cross(x, y, dim=-1)], -1)


def _quaternion(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Return the real part [..., 1] (not negative) and imaginary part [..., 3] of a rotation's unit quaternion.

    Four times the outer product of a quaternion with itself is linear in the matrix; the row with the largest
    diagonal element is the best conditioned one to normalise (Shepperd, 1978).
    """
    m = matrix
    trace = m.diagonal(dim1=-2, dim2=-1).sum(-1)
    real = torch.stack([m[..., 2, 1] - m[..., 1, 2], m[..., 0, 2] - m[..., 2, 0], m[..., 1, 0] - m[..., 0, 1]], -1)
    imaginary = m + m.transpose(-1, -2) + (1 - trace)[..., None, None] * torch.eye(3, dtype=m.dtype, device=m.device)
    outer = pad(imaginary, (1, 0, 1, 0))  # [..., 4, 4], with room for the real part in front
    first = torch.cat([(1 + trace)[..., None], real], -1)
    outer = outer + pad(first[..., None, :], (0, 0, 0, 3))
    outer = outer + pad(real[..., :, None], (0, 3, 1, 0))
    best = outer.diagonal(dim1=-2, dim2=-1).argmax(-1)
    row = torch.take_along_dim(outer, best[..., None, None], -2).squeeze(-2)
    quaternion = normalize(row, dim=-1)
    quaternion = torch.where(quaternion[..., :1] < 0, -quaternion, quaternion)
    return quaternion[..., :1], quaternion[..., 1:]
