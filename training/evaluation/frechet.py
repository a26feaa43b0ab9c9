"""FID and FVD: the Frechet distance between Gaussians fitted to features of frames, or of clips.

Features come from TorchScript modules that the user provides, by convention Inception of 2015 (published with
StyleGAN3, `inception-2015-12-05.pt`) and I3D (published with StyleGAN-V, `i3d_torchscript.pt`).
"""

from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

from opendimo.training.evaluation.weights import script, usual_device

Array = NDArray[np.float64]
Frames = NDArray[np.uint8]
CHUNK = 16  # frames at a time
OPTIONS = ("return_features", "rescale", "resize")
"""Boolean arguments of the published modules that must be True."""


class Features:
    """Feature extractor from a TorchScript module."""

    def __init__(self, weights: Path) -> None:
        """Load the module. Raises `ValueError` if the file is not a TorchScript module."""
        self._path, self._module = weights, script(weights)
        arguments = {argument.name for argument in cast(Any, self._module.forward).schema.arguments}
        self._options = {name: True for name in OPTIONS if name in arguments}

    def of_frames(self, clip: Frames) -> Array:
        """Return features [T, D] of frames [T, H, W, 3]; the module receives uint8 [n, 3, H, W]."""
        parts = [clip[k : k + CHUNK] for k in range(0, len(clip), CHUNK)]
        return np.concatenate([self._run(torch.from_numpy(p.copy()).permute(0, 3, 1, 2)) for p in parts])

    def of_clip(self, clip: Frames) -> Array:
        """Return features [1, D] of a clip [T, H, W, 3]; the module resizes float32 [1, 3, T, H, W], 0 to 255."""
        return self._run(torch.from_numpy(clip.copy()).permute(3, 0, 1, 2)[None].float())

    @torch.no_grad()
    def _run(self, images: torch.Tensor) -> Array:
        try:
            features = self._module(images.to(usual_device()), **self._options)
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[-1]
            raise ValueError(
                f"{self._path} cannot process input {list(images.shape)} {images.dtype}: {reason}"
            ) from error
        return features.flatten(1).double().cpu().numpy()


def frechet_distance(a: Array, b: Array) -> float:
    """Return the Frechet distance of Gaussians with the means and covariances A, B of samples [N, D] and [M, D].

    ||mean difference||^2 + tr(A + B - 2 (A B)^1/2). Raises `ValueError` for fewer than two samples of either.
    """
    if min(len(a), len(b)) < 2:
        raise ValueError(f"a Frechet distance needs two samples of each set, got {len(a)} and {len(b)}")
    means = a.mean(axis=0), b.mean(axis=0)
    # with small, numerically stable factors A = R^T R, tr (A B)^1/2 is the sum of the singular values of R_a R_b^T
    roots = [_root(x, mean) for x, mean in zip((a, b), means, strict=True)]
    cross = float(np.linalg.svdvals(roots[0] @ roots[1].T).sum())
    traces = sum(float((root**2).sum()) for root in roots)
    return float(max(0.0, ((means[0] - means[1]) ** 2).sum() + traces - 2 * cross))


def _root(samples: Array, mean: Array) -> Array:
    """Return R [min(N, D), D] such that R^T R is the covariance of samples [N, D]."""
    return np.asarray(np.linalg.qr((samples - mean) / np.sqrt(len(samples) - 1), mode="r"))
