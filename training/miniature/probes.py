"""Probe motion tokens: ridge regression of poses and camera azimuth, and retrieval of the other view of a moment."""

from typing import NamedTuple

import torch
from torch import Tensor

from opendimo.model.batch import Batch
from opendimo.model.dimo import DiMo
from opendimo.model.geometry import body_points

RIDGE = 100.0
"""Regularisation strength of the ridge regression."""


class TokenProbes(NamedTuple):
    """Results of the probes on held-out windows."""

    joints_r2: float
    azimuth_r2: float  # of sine and cosine of the azimuth
    retrieval: float  # share of windows whose nearest other window by tokens is the other view of the same moment
    spread: float  # root mean square of the tokens' standard deviation over frames, divided by that of the tokens


def tokens_of(model: DiMo, batch: Batch) -> Tensor:
    """Return the motion tokens [B, T, N d] of driving frames."""
    present = torch.ones(len(batch.target), dtype=torch.bool)
    with torch.inference_mode():
        features = model.control(batch.driving, present, model.transformer.grid(batch.target)).features
    return features.flatten(2).clone()


def probe_tokens(train: list[tuple[Tensor, Batch, Tensor]], test: list[tuple[Tensor, Batch, Tensor]]) -> TokenProbes:
    """Fit probes on `train`, measure on `test`: tokens [B, T, D], batch and azimuths [B] in degrees of each batch."""
    fitted, held_out = (_frames(batches) for batches in (train, test))
    windows = torch.cat([tokens for tokens, _, _ in test]).flatten(1)  # [W, T D]
    centred = windows - windows.mean(0)
    similarity = torch.nn.functional.normalize(centred, dim=1) @ torch.nn.functional.normalize(centred, dim=1).T
    similarity.fill_diagonal_(-torch.inf)
    other_view = torch.arange(len(windows)) ^ 1  # consecutive windows are the two views of a moment
    spread = held_out[0].std(0).square().mean().sqrt() / held_out[0].square().mean().sqrt()
    return TokenProbes(
        joints_r2=_r2(fitted[0], fitted[1], held_out[0], held_out[1]),
        azimuth_r2=_r2(fitted[0], fitted[2], held_out[0], held_out[2]),
        retrieval=float((similarity.argmax(1) == other_view).float().mean()),
        spread=float(spread),
    )


def pose_r2(model: DiMo, batch: Batch) -> float:
    """Return R2 of the joints predicted by the geometry head. Raises `ValueError` if the model has no such head."""
    model.eval()
    with torch.inference_mode():
        predicted, _ = model.poses(model.features(batch))
    model.train()
    joints, true = (body_points(x).flatten(0, 1)[:, 1:].flatten(1) for x in (predicted, batch.driving.body6d))
    return _r2_of(joints, true)


def _frames(batches: list[tuple[Tensor, Batch, Tensor]]) -> tuple[Tensor, Tensor, Tensor]:
    """Concatenate all frames: tokens [F, D], joints [F, 3 J], sine and cosine of the azimuth [F, 2]."""
    tokens = torch.cat([t.flatten(0, 1) for t, _, _ in batches])
    joints = torch.cat([body_points(b.driving.body6d).flatten(0, 1)[:, 1:].flatten(1) for _, b, _ in batches])
    angles = torch.cat([a[:, None].expand(-1, t.shape[1]).flatten() for t, _, a in batches])
    return tokens, joints, torch.stack([angles.deg2rad().sin(), angles.deg2rad().cos()], -1)


def _r2(x: Tensor, y: Tensor, x_test: Tensor, y_test: Tensor) -> float:
    """Return held-out R2 of a ridge regression on standardised inputs."""
    mean, std = x.mean(0), x.std(0).clamp(min=1e-6)
    a, b = (x - mean) / std, (x_test - mean) / std
    weights = torch.linalg.solve(a.T @ a + RIDGE * torch.eye(a.shape[1]), a.T @ (y - y.mean(0)))
    return _r2_of(b @ weights + y.mean(0), y_test)


def _r2_of(predicted: Tensor, true: Tensor) -> float:
    """Return the coefficient of determination over all outputs."""
    return float(1 - (predicted - true).square().sum() / (true - true.mean(0)).square().sum())
