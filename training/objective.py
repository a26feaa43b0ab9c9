"""Training loss: flow matching, the geometric loss while its weight is not zero, and losses of the control."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate, pad

from opendimo.model.dimo import Batch, DiMo, Driving
from opendimo.model.flow import flow_loss, per_sample, sample_sigma
from opendimo.model.geometry import PoseLabels, geometry_loss
from opendimo.training.noise import normal

Gather = Callable[[Tensor], Tensor]
"""Concatenates a tensor [n, ...] over the processes of a run."""


def _same(part: Tensor) -> Tensor:
    return part


@dataclass(frozen=True)
class Conditions:
    """Random inputs of a step: `sigma`, `drop_text`, `drop_motion` [B]; `noise` with the shape of the target.

    `augment_seeds`: one per sample; None: no augmentation.
    """

    sigma: Tensor
    noise: Tensor
    drop_text: Tensor
    drop_motion: Tensor
    augment_seeds: tuple[int, ...] | None

    def part(self, chosen: slice) -> "Conditions":
        """Return the inputs of some samples."""
        seeds = None if self.augment_seeds is None else self.augment_seeds[chosen]
        return Conditions(
            self.sigma[chosen], self.noise[chosen], self.drop_text[chosen], self.drop_motion[chosen], seeds
        )


@dataclass(frozen=True)
class Terms:
    """Loss terms, scalars except `samples`; None for a term that does not apply.

    `loss` = `flow` (or `weighted_flow`, if the control weights regions) + weight * `geometry` + the sum of `control`,
    the losses of the control by name. Both flow losses are means over the predicted latent frames; `flow` is the mean
    of `samples` [B]. `velocity` [B, C, L, h, w]: the predicted velocity, without gradients.
    """

    loss: Tensor
    flow: Tensor
    samples: Tensor
    velocity: Tensor | None = None
    weighted_flow: Tensor | None = None
    geometry: Tensor | None = None
    control: dict[str, Tensor] = field(default_factory=dict)

    def as_floats(self) -> dict[str, float | None]:
        """Return all scalar terms by name, as numbers."""
        terms = {
            f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("control", "samples", "velocity")
        } | self.control
        return {name: None if term is None else float(term.detach()) for name, term in terms.items()}


def draw(
    batch: Batch, step: int, seed: int, *, shift: float, text_dropout: float, motion_dropout: float, first: int = 0
) -> Conditions:
    """Draw the random inputs of `step`, which are the same on any device. `shift`: of sigma.

    Those of a sample depend only on (seed, step, number of the sample); `first`: number of the first one in `batch`.
    """
    keys = [seed_of(seed, step, number) for number in range(first, first + len(batch.target))]
    sigma, chances, seeds = zip(*(_draw_sample(key, shift) for key in keys), strict=True)
    dropped = torch.stack(chances) < torch.tensor([text_dropout, motion_dropout])  # [B, 2]
    device = batch.target.device
    return Conditions(
        torch.cat(sigma).to(device),
        normal(keys, batch.target.shape[1:], device),
        dropped[:, 0].to(device),
        dropped[:, 1].to(device),
        seeds,
    )


def seed_of(*parts: int) -> int:
    """Return a seed of 63 bits, a hash of non-negative integers."""
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0] >> np.uint64(1))


def _draw_sample(seed: int, shift: float) -> tuple[Tensor, Tensor, int]:
    """Draw sigma [1], the two chances of dropout [2], and the augmentation seed of one sample."""
    generator = torch.Generator().manual_seed(seed)
    sigma, chances = sample_sigma(1, shift, generator), torch.rand(2, generator=generator)
    return sigma, chances, int(torch.randint(2**62, (), generator=generator))


def with_text(batch: Batch, chosen: Tensor, text: Tensor) -> Batch:
    """Replace the text of the samples in the mask `chosen` [B] by the embedding `text` [n, D]."""
    length = max(batch.text.shape[1], len(text))
    text_before = pad(batch.text, (0, 0, 0, length - batch.text.shape[1]))  # [B, length, D]
    ok_before = pad(batch.text_ok, (0, length - batch.text_ok.shape[1]))
    other = pad(text.to(text_before), (0, 0, 0, length - len(text)))
    other_ok = torch.arange(length, device=text_before.device) < len(text)
    return replace(
        batch,
        text=torch.where(chosen[:, None, None], other, text_before),
        text_ok=torch.where(chosen[:, None], other_ok, ok_before),
    )


def without_some_hands(driving: Driving, share: float, seeds: Sequence[int]) -> Driving:
    """Drop visible hands at random: a `share` of the samples lose each with a probability of their own, uniform.

    `seeds`: one per sample.
    """
    dropped = torch.stack([_dropped_hands(driving.hand_ok[0].shape, share, seed_of(seed, 1)) for seed in seeds])
    return replace(driving, hand_ok=driving.hand_ok & ~dropped.to(driving.hand_ok.device))


def _dropped_hands(shape: torch.Size, share: float, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    chosen, rate = torch.rand(2, generator=generator)
    return torch.rand(shape, generator=generator) < (rate if chosen < share else 0.0)


def some_frames(driving: Driving, share: float, seed: int) -> Driving:
    """Return a random `share` of the frames of driving windows, at least one frame, the same for all samples."""
    frames = driving.body.shape[1]
    order = torch.randperm(frames, generator=torch.Generator().manual_seed(seed))
    chosen = order[: max(1, round(share * frames))].sort().values.to(driving.body.device)
    return driving.map(lambda x: x[:, chosen])


def pose_loss(model: DiMo, features: Tensor, batch: Batch, joints_weight: float, gathered: Gather = _same) -> Tensor:
    """Return the geometric loss of the head on motion features [B, T, N, d].

    `gathered` concatenates the samples of all processes: the head's batch norm and the number of labelled frames are
    those of the whole batch.
    """
    labels = PoseLabels(*map(gathered, PoseLabels.of(batch)))
    return geometry_loss(*model.poses(gathered(features)), labels, joints_weight)


def encoder_loss(
    model: DiMo,
    batch: Batch,
    conditions: Conditions,
    geometry_weight: float,
    joints_weight: float,
    perspective: float = 1.0,
    gathered: Gather = _same,
    views: int = 1,
) -> Terms:
    """Compute the geometric loss of encoder and head, without running the generator; `flow` is zero.

    `views` has no effect.
    """
    features = model.features(batch, conditions.augment_seeds, perspective)
    geometry = pose_loss(model, features, batch, joints_weight, gathered)
    none = geometry.new_zeros(len(batch.target))
    return Terms(geometry_weight * geometry, none.mean(), none, geometry=geometry)


def training_loss(
    model: DiMo,
    batch: Batch,
    conditions: Conditions,
    geometry_weight: float,
    joints_weight: float,
    perspective: float = 1.0,
    gathered: Gather = _same,
    views: int = 1,
) -> Terms:
    """Compute the loss of one batch; text dropout is applied before, by `with_text`.

    `joints_weight`: weight of joint positions within `geometry`. `perspective`: strength of perspective warps, 0 to 1.
    `gathered`: as in `pose_loss`. `views`: every so many samples in a row are views of one moment.
    """
    prediction = model(
        batch,
        sigma=conditions.sigma,
        noise=conditions.noise,
        drop_motion=conditions.drop_motion,
        augment_seeds=conditions.augment_seeds,
        perspective=perspective,
        views=views,
    )
    given = int(
        model.transformer.first_frame_is_given
    )  # 1: exclude latent frame 0, whose zero error would lower the mean
    velocity, target, noise = (x[:, :, given:] for x in (prediction.velocity, batch.target, conditions.noise))
    samples = flow_loss(velocity, target, noise)
    flow = loss = samples.mean()
    weighted = geometry = None
    if prediction.loss_weight is not None:
        weight = interpolate(prediction.loss_weight, batch.target.shape[2:])[:, :, given:]  # token grid -> latent grid
        weight = torch.where(
            per_sample(batch.same_view, weight), weight, 1.0
        )  # regions are located in the driver's view
        weight = weight / weight.mean(dim=(1, 2, 3, 4), keepdim=True)  # differs from 1 only if a frame is excluded
        loss = weighted = flow_loss(velocity, target, noise, weight).mean()
    if geometry_weight > 0 and model.geometry is not None and prediction.features is not None:
        geometry = pose_loss(model, prediction.features, batch, joints_weight, gathered)
        loss = loss + geometry_weight * geometry
    loss = loss + sum(prediction.losses.values())
    return Terms(loss, flow, samples, prediction.velocity.detach(), weighted, geometry, prediction.losses)
