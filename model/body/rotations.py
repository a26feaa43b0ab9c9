"""The continuous 6-D form of rotations (Zhou et al., CVPR 2019) in torch; `roma` has all other forms.

Matrices `[..., 3, 3]` act on column vectors; 6-D `[..., 6]` = their first two columns, one after the other.
"""

import torch
from torch import Tensor
from torch.nn.functional import normalize


def matrix_to_6d(matrix: Tensor) -> Tensor:
    """Return the first two columns of matrices. [..., 3, 3] -> [..., 6]."""
    return matrix[..., :2].transpose(-1, -2).flatten(-2)


def sixd_to_matrix(sixd: Tensor) -> Tensor:
    """Orthonormalise the two columns (Gram-Schmidt). [..., 6], any two independent vectors -> [..., 3, 3] rotations."""
    first, second = sixd.unflatten(-1, (2, 3)).unbind(-2)
    x = normalize(first, dim=-1)
    y = normalize(second - (x * second).sum(-1, keepdim=True) * x, dim=-1)
    return torch.stack([x, y, torch.cross(x, y, dim=-1)], -1)
