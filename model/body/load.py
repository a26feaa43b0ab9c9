"""Load a body model from a file in the SMPL-X format (.npz) and pose it.

The user's SMPL-X file and the mannequin are both loaded with the `smplx` package.
"""

import contextlib
import hashlib
import io
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import roma
import torch
from numpy.typing import NDArray
from smplx import SMPLX
from smplx.lbs import lbs, vertices2joints
from torch import Tensor

from opendimo.model.body.kinematics import forward_kinematics
from opendimo.model.body.mannequin import mannequin_file
from opendimo.model.body.skeleton import FROM_SMPLX, PARENTS, SMPLX_PARENTS

MAX_BETAS = 16  # BEDLAM2 uses 16, SMPL-X files hold up to 300


class Body(torch.nn.Module):
    """A body model in torch float32 and metres; differentiable. T frames, B shape coefficients.

    The zero hand pose is a flat hand; jaw, eyes and expression stay at rest. `betas` may be shorter than the model's
    number of coefficients (the rest is zero). Raises `ValueError` if it is longer and the excess is not zero.
    """

    faces: Tensor

    def __init__(self, layer: SMPLX, sha256: str) -> None:
        super().__init__()
        self.layer = layer.requires_grad_(False)
        self.sha256 = sha256
        self.register_buffer("faces", torch.from_numpy(layer.faces.astype(np.int64)))

    @property
    def num_betas(self) -> int:
        """Number of shape coefficients of the model."""
        return int(self.layer.num_betas)

    def rest_joints(self, betas: Tensor) -> Tensor:
        """Return the joints of the T-pose. [B] -> [52, 3]."""
        return self._rest_joints(betas)[list(FROM_SMPLX)]

    def joints(
        self, global_orient: Tensor, body_pose: Tensor, hand_pose: Tensor, transl: Tensor, betas: Tensor
    ) -> Tensor:
        """Return joints by forward kinematics. [T, 3], [T, 21, 3], [T, 2, 15, 3], [T, 3], [B] -> [T, 52, 3]."""
        rotations = _rotations(global_orient, body_pose, hand_pose)  # [T, 52, 3, 3]
        return forward_kinematics(rotations, self.rest_joints(betas), PARENTS) + transl[:, None]

    def vertices(
        self, global_orient: Tensor, body_pose: Tensor, hand_pose: Tensor, transl: Tensor, betas: Tensor
    ) -> Tensor:
        """Return skin vertices. [T, 3], [T, 21, 3], [T, 2, 15, 3], [T, 3], [B] -> [T, V, 3]."""
        rotations = _rotations(global_orient, body_pose, hand_pose)
        every = torch.eye(3).repeat(len(rotations), len(SMPLX_PARENTS), 1, 1)  # [T, 55, 3, 3], the face stays at rest
        every = every.index_copy(1, torch.tensor(FROM_SMPLX), rotations)
        model = self.layer
        vertices, _ = lbs(
            self._betas(betas).expand(len(every), -1), every, model.v_template, model.shapedirs, model.posedirs,
            model.J_regressor, model.parents, model.lbs_weights, pose2rot=False,
        )  # fmt: skip
        return vertices + transl[:, None]

    def _betas(self, betas: Tensor) -> Tensor:
        extra = betas[self.num_betas :]
        if bool((extra != 0).any()):
            raise ValueError(f"{len(betas)} shape coefficients given, but the body model has {self.num_betas}")
        missing = max(self.num_betas - len(betas), 0)
        return torch.nn.functional.pad(betas[: self.num_betas], (0, missing))

    def _rest_joints(self, betas: Tensor) -> Tensor:
        shaped = self.layer.v_template + self.layer.shapedirs @ self._betas(betas)  # [V, 3]
        return vertices2joints(self.layer.J_regressor, shaped[None])[0]  # [55, 3]


def load_body(path: Path | None = None) -> Body:
    """Load a body model from a SMPL-X .npz file; None loads the mannequin.

    Only plain arrays are read. Raises `ValueError` if the file is missing, is not a SMPL-X file, or stores required
    arrays as pickled objects (which could run code).
    """
    file = mannequin_file() if path is None else Path(path)
    arrays = _plain_arrays(file)
    # smplx unpickles everything in the file that it reads, so give it a copy with only the checked arrays
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        copy = Path(folder) / "model.npz"
        np.savez(copy, **arrays)  # type: ignore[arg-type]
        layer = SMPLX(str(copy), num_betas=MAX_BETAS, use_pca=False, flat_hand_mean=True)
    return Body(layer, hashlib.sha256(file.read_bytes()).hexdigest())


def _rotations(global_orient: Tensor, body_pose: Tensor, hand_pose: Tensor) -> Tensor:
    hands = hand_pose.flatten(1, 2)  # [T, 2, 15, 3] -> [T, 30, 3]
    return roma.rotvec_to_rotmat(torch.cat([global_orient[:, None], body_pose, hands], 1))  # [T, 52, 3, 3]


_KEYS = (
    "v_template", "f", "shapedirs", "posedirs", "J_regressor", "kintree_table", "weights", "lmk_faces_idx",
    "lmk_bary_coords", "hands_componentsl", "hands_componentsr", "hands_meanl", "hands_meanr",
)  # fmt: skip


def _plain_arrays(file: Path) -> dict[str, NDArray[Any]]:
    """Read the arrays that smplx needs, and nothing else: the official files also contain pickled dictionaries."""
    if not file.is_file():
        raise ValueError(f"no body model at {file}: give the SMPL-X .npz file that you downloaded")
    try:
        with np.load(file, allow_pickle=False) as content:
            arrays = {key: content[key] for key in _KEYS}
    except KeyError as error:
        raise ValueError(f"{file} is not a SMPL-X body model: {error.args[0]}") from error
    except (ValueError, OSError, zipfile.BadZipFile, EOFError, TypeError) as error:
        raise ValueError(
            f"{file} is not a plain SMPL-X .npz file ({error}); pickled objects are rejected, because loading them "
            "can run code: download the .npz file, or save its arrays again without objects"
        ) from error
    if tuple(arrays["kintree_table"][0].astype(np.int64)[1:]) != SMPLX_PARENTS[1:]:
        raise ValueError(f"{file} does not have SMPL-X's tree of 55 joints (is it SMPL or SMPL-H?)")
    return arrays
