"""The loss of a step: flow matching, plus the geometric term while its weight is not zero."""

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from model.dimo import Batch, DiMo
from model.flow import flow_loss, sample_sigma
from model.geometry import geometry_loss
from training.config import TrainConfig


@dataclass(frozen=True)
class Conditions:
    """All that is random in a step. `sigma`, `drop_text`, `drop_motion` [B]; `noise` like the target."""

    sigma: Tensor
    noise: Tensor
    drop_text: Tensor
    drop_motion: Tensor
    augment_seed: int | None


@dataclass(frozen=True)
class Terms:
    """Scalars: `loss` = `flow` + weight * `geometry`; `geometry` is None where its weight is zero."""

    loss: Tensor
    flow: Tensor
    geometry: Tensor | None

    def as_floats(self) -> dict[str, float | None]:
        """The terms by name."""
        return {f.name: None if (v := getattr(self, f.name)) is None else float(v.detach()) for f in fields(self)}


def draw(batch: Batch, step: int, config: TrainConfig, text_dropout: float, motion_dropout: float) -> Conditions:
    """The random part of `step`, from (seed, step) alone; drawn on the CPU, so that devices agree."""
    generator = torch.Generator().manual_seed(config.seed * 1_000_003 + step)
    n, device = len(batch.target), batch.target.device
    sigma = sample_sigma(n, config.shift, generator)
    noise = torch.randn(batch.target.shape, generator=generator)
    dropped = torch.rand(2, n, generator=generator) < torch.tensor([[text_dropout], [motion_dropout]])
    return Conditions(
        sigma.to(device), noise.to(device), dropped[0].to(device), dropped[1].to(device), config.seed * 1_000_003 + step
    )


def training_loss(model: DiMo, batch: Batch, conditions: Conditions, geometry_weight: float) -> Terms:
    """The loss of one batch."""
    prediction = model(batch, **{f.name: getattr(conditions, f.name) for f in fields(conditions)})
    flow = flow_loss(prediction.velocity, batch.target, conditions.noise).mean()
    if geometry_weight == 0 or prediction.body6d is None:
        return Terms(flow, flow, None)
    geometry = geometry_loss(prediction, batch)
    return Terms(flow + geometry_weight * geometry, flow, geometry)
