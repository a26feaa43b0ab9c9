"""What motion tokens tell: poses and the camera's azimuth by ridge regression, and the other view of a performance."""

from typing import NamedTuple

import torch
from torch import Tensor

from opendimo.model.batch import Batch
from opendimo.model.dimo import DiMo
from opendimo.model.geometry import body_points

RIDGE = 100.0


class TokenProbes(NamedTuple):
    """R2 of joints and of the sine and cosine of the azimuth on held-out windows, and the share of windows whose
    nearest other window by tokens is the other view of the same moment. None for a model without motion tokens."""

    joints_r2: float
    azimuth_r2: float
    retrieval: float
    spread: float


def tokens_of(model: DiMo, batch: Batch) -> Tensor:
    """Motion tokens [B, T, N d] of driving frames."""
    present = torch.ones(len(batch.target), dtype=torch.bool)
    with torch.inference_mode():
        features = model.control(batch.driving, present, model.transformer.grid(batch.target)).features
    return features.flatten(2).clone()


def probe_tokens(train: list[tuple[Tensor, Batch, Tensor]], test: list[tuple[Tensor, Batch, Tensor]]) -> TokenProbes:
    """Fit on some windows and measure on others; each entry is tokens [B, T, D], their batch and azimuths [B]."""
    fitted, held = (_gathered(part) for part in (train, test))
    windows = torch.cat([tokens for tokens, _, _ in test]).flatten(1)  # [W, T D]
    centred = windows - windows.mean(0)
    similar = torch.nn.functional.normalize(centred, dim=1) @ torch.nn.functional.normalize(centred, dim=1).T
    similar.fill_diagonal_(-torch.inf)
    partner = torch.arange(len(windows)) ^ 1  # windows come in pairs of views
    spread = held[0].std(0).square().mean().sqrt() / held[0].square().mean().sqrt()
    return TokenProbes(
        joints_r2=_r2(fitted[0], fitted[1], held[0], held[1]),
        azimuth_r2=_r2(fitted[0], fitted[2], held[0], held[2]),
        retrieval=float((similar.argmax(1) == partner).float().mean()),
        spread=float(spread),
    )


def pose_r2(model: DiMo, batch: Batch) -> float:
    """R2 of the joints that the geometry head reads off the tokens. Raises `ValueError` without a head."""
    model.eval()
    with torch.inference_mode():
        predicted = model.poses(batch).body6d
    model.train()
    assert predicted is not None
    found, true = (body_points(x).flatten(0, 1)[:, 1:].flatten(1) for x in (predicted, batch.driving.body6d))
    return _r2_of(found, true)


def _gathered(part: list[tuple[Tensor, Batch, Tensor]]) -> tuple[Tensor, Tensor, Tensor]:
    """Frames of all windows: tokens [F, D], joints [F, 3 J], sine and cosine of the azimuth [F, 2]."""
    tokens = torch.cat([t.flatten(0, 1) for t, _, _ in part])
    joints = torch.cat([body_points(b.driving.body6d).flatten(0, 1)[:, 1:].flatten(1) for _, b, _ in part])
    angles = torch.cat([a[:, None].expand(-1, t.shape[1]).flatten() for t, _, a in part])
    return tokens, joints, torch.stack([angles.deg2rad().sin(), angles.deg2rad().cos()], -1)


def _r2(x: Tensor, y: Tensor, x_test: Tensor, y_test: Tensor) -> float:
    """Held-out R2 of a ridge regression on standardised inputs."""
    mean, std = x.mean(0), x.std(0).clamp(min=1e-6)
    a, b = (x - mean) / std, (x_test - mean) / std
    weights = torch.linalg.solve(a.T @ a + RIDGE * torch.eye(a.shape[1]), a.T @ (y - y.mean(0)))
    return _r2_of(b @ weights + y.mean(0), y_test)


def _r2_of(found: Tensor, true: Tensor) -> float:
    return float(1 - (found - true).square().sum() / (true - true.mean(0)).square().sum())
