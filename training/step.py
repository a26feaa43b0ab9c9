"""One optimizer step on a batch."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from opendimo.model.batch import Batch
from opendimo.model.dimo import DiMo
from opendimo.training.config import TrainConfig
from opendimo.training.objective import (
    Conditions,
    Terms,
    draw,
    encoder_loss,
    seed_of,
    some_frames,
    training_loss,
    with_text,
    without_some_hands,
)
from opendimo.training.optimizer import PartsOptimizer
from opendimo.training.parallel import World
from opendimo.training.precision import computing
from opendimo.training.release import Pair
from opendimo.training.schedule import StagePoint, stage_at

FRAMES_SHARE = 1 / 3
"""Share of the frames of a window used in encoder-only steps: frames of a window are similar and each costs time."""


@dataclass(frozen=True)
class StepResult:
    """What a step measured, over all processes.

    `losses`: mean of each loss term, by name. `grad_norm`: norm of all gradients before clipping; `grad_norms`: by part
    of the model. `flow`, `sigma` [B]: flow loss and noise level of each sample; empty if the generator did not run.
    """

    losses: dict[str, float | None]
    grad_norm: float
    grad_norms: dict[str, float]
    flow: Tensor
    sigma: Tensor

    @property
    def is_finite(self) -> bool:
        """Whether loss and gradients are numbers."""
        return math.isfinite(self.losses["loss"] or 0.0) and math.isfinite(self.grad_norm)

    def by_group(self, pairs: Sequence[Pair]) -> dict[str, dict[str, float]]:
        """Return the mean flow loss by kind of pair, by kind of source, and by quarter of the noise level.

        `pairs`: those of the batch. Empty if the generator did not run.
        """
        if not len(self.flow):
            return {}
        quarters = (4 * self.sigma).int().clamp(max=3).tolist()
        return {
            "flow_by_kind": _mean_by(self.flow, [pair.kind for pair in pairs]),
            "flow_by_source": _mean_by(self.flow, [pair.source_kind for pair in pairs]),
            "flow_by_noise": _mean_by(self.flow, [f"{k / 4:g}-{(k + 1) / 4:g}" for k in quarters]),
        }


class Stepper:
    """Computes the steps of a run: `compute` the gradients, then let the optimizer `update` the weights."""

    def __init__(
        self,
        model: DiMo,
        optimizer: PartsOptimizer,
        config: TrainConfig,
        world: World,
        *,
        no_text: Tensor,
        shift: float,
    ) -> None:
        """`no_text` [n, D]: embedding of the empty prompt. `shift`: of noise levels."""
        self._model, self._optimizer, self._config, self._world = model, optimizer, config, world
        self._no_text, self._shift = no_text, shift

    def compute(self, batch: Batch, step: int) -> StepResult:
        """Compute the clipped gradients of this process's samples of a batch, on the device and in float32."""
        config, point = self._config, stage_at(step, self._config.schedule)
        encoder = getattr(self._model.control, "motion_encoder", None)
        if encoder is not None and self._world.size == 1:
            encoder.requires_grad_(point.trains_encoder)  # saves time; sharded weights ignore later changes of it
        conditions = draw(
            batch,
            step,
            config.seed,
            shift=self._shift,
            text_dropout=point.text_dropout,
            motion_dropout=point.motion_dropout,
            first=self._world.samples(config.batch_size).start,
        )
        torch.manual_seed(seed_of(config.seed, step))  # for random operations that take no generator
        batch = with_text(batch, conditions.drop_text, self._no_text)
        driving = without_some_hands(batch.driving, point.hand_dropout, conditions.augment_seeds or ())
        if point.views > 1 and np.random.default_rng([config.seed, step]).random() < point.view_dropout:
            point = replace(point, views=1)
        self._optimizer.zero_grad()
        means = _Means(len(batch.target))
        self._backpropagate(replace(batch, driving=driving), conditions, point, seed_of(config.seed, step), means)
        if encoder is not None and not point.trains_encoder:
            encoder.zero_grad()
        grad_norms = self._optimizer.clip(config.grad_clip)
        flow = sigma = torch.empty(0)
        if point.trains_generator:
            samples = torch.stack([means.flow, conditions.sigma], dim=1)  # [n, 2]
            flow, sigma = self._world.gathered(samples).T.cpu()  # [B] each
        return StepResult(
            self._world.mean(means.losses),
            math.sqrt(sum(norm**2 for norm in grad_norms.values())),
            grad_norms,
            flow,
            sigma,
        )

    def update(self, step: int) -> None:
        """Update the weights by the gradients that `compute` left."""
        point = stage_at(step, self._config.schedule)
        self._optimizer.set_rates({"generator": point.lr, "motion": point.motion_lr, "encoder": point.encoder_lr})
        self._optimizer.step()

    def _backpropagate(
        self, batch: Batch, conditions: Conditions, point: StagePoint, seed: int, means: "_Means"
    ) -> None:
        """Add the gradients of all samples, `micro_batch` at a time."""
        count = len(batch.target)
        size = min(self._config.micro_batch or count, count)
        weight = point.geometry_weight if self._model.geometry is not None else 0.0
        if not point.trains_generator and self._model.geometry is not None:
            driving = batch.driving
            if not self._model.control.whole_windows:
                driving = some_frames(driving, FRAMES_SHARE, seed)
            self._add(encoder_loss, replace(batch, driving=driving), conditions, point, weight, means)
            return
        if size < count and weight > 0:  # the head's batch norm needs the whole batch; it takes little memory
            self._add(encoder_loss, batch, conditions, point, weight, means)
            weight = 0.0
        for start in range(0, count, size):
            chosen = slice(start, start + size)
            self._add(training_loss, batch.part(chosen), conditions.part(chosen), point, weight, means)

    def _add(
        self,
        loss: Callable[..., Terms],
        part: Batch,
        conditions: Conditions,
        point: StagePoint,
        weight: float,
        means: "_Means",
    ) -> None:
        """Add the gradients of some samples. `weight`: of the geometric loss."""
        config = self._config
        with computing(part.target.device, config.bf16):
            terms = loss(
                self._model,
                part,
                conditions,
                weight,
                config.joints_weight,
                point.perspective,
                self._world.gathered,
                point.views,
            )
        share = means.add(terms)
        (share * terms.loss).backward()


class _Means:
    """Means of loss terms over the samples of a process, from parts of them."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._flow: list[Tensor] = []
        self.losses: dict[str, float | None] = {}

    def add(self, terms: Terms) -> float:
        """Add the terms of a part; return its share of all samples."""
        share = len(terms.samples) / self._count
        for name, value in terms.as_floats().items():
            self.losses[name] = self.losses.get(name) if value is None else (self.losses.get(name) or 0) + share * value
        self._flow.append(terms.samples.detach())
        return share

    @property
    def flow(self) -> Tensor:
        """Flow loss of each sample [n]; the last `n` that were added, since the encoder alone has none."""
        return torch.cat(self._flow)[-self._count :]


def _mean_by(values: Tensor, groups: Sequence[str]) -> dict[str, float]:
    """Return the mean of `values` [B] in each group, by name."""
    return {
        name: float(values[torch.tensor([group == name for group in groups])].mean()) for name in dict.fromkeys(groups)
    }
