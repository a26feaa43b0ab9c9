"""Training loss: flow matching, the geometric loss while its weight is not zero, and losses of the control."""

from dataclasses import dataclass, field, fields, replace

import torch
from torch import Tensor
from torch.nn.functional import interpolate, pad

from opendimo.model.dimo import Batch, DiMo, Driving
from opendimo.model.flow import flow_loss, per_sample, sample_sigma
from opendimo.model.geometry import geometry_loss


@dataclass(frozen=True)
class Conditions:
    """Random inputs of a step: `sigma`, `drop_text`, `drop_motion` [B]; `noise` with the shape of the target."""

    sigma: Tensor
    noise: Tensor
    drop_text: Tensor
    drop_motion: Tensor
    augment_seed: int | None


@dataclass(frozen=True)
class Terms:
    """Loss terms, scalars except `samples`; None for a term that does not apply.

    `loss` = `flow` (or `weighted_flow`, if the control weights regions) + weight * `geometry` + the sum of `control`,
    the losses of the control by name. Both flow losses are means over the predicted latent frames; `flow` is the mean
    of `samples` [B].
    """

    loss: Tensor
    flow: Tensor
    samples: Tensor
    weighted_flow: Tensor | None = None
    geometry: Tensor | None = None
    control: dict[str, Tensor] = field(default_factory=dict)

    def as_floats(self) -> dict[str, float | None]:
        """Return all scalar terms by name, as numbers."""
        terms = {
            f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("control", "samples")
        } | self.control
        return {name: None if term is None else float(term.detach()) for name, term in terms.items()}


def draw(batch: Batch, step: int, seed: int, *, shift: float, text_dropout: float, motion_dropout: float) -> Conditions:
    """Draw the random inputs of `step` from (seed, step) alone, on the CPU so that devices agree. `shift`: of sigma."""
    generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
    n, device = len(batch.target), batch.target.device
    sigma = sample_sigma(n, shift, generator)
    noise = torch.randn(batch.target.shape, generator=generator)
    dropped = torch.rand(2, n, generator=generator) < torch.tensor([[text_dropout], [motion_dropout]])
    augment_seed = int(torch.randint(2**62, (), generator=generator))
    return Conditions(sigma.to(device), noise.to(device), dropped[0].to(device), dropped[1].to(device), augment_seed)


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


def without_some_hands(driving: Driving, share: float, seed: int) -> Driving:
    """Drop visible hands at random: a `share` of the samples lose each with a probability of their own, uniform."""
    generator = torch.Generator().manual_seed(seed)
    clips, frames, hands = driving.hand_ok.shape
    chosen = torch.rand(clips, generator=generator) < share
    rate = torch.where(chosen, torch.rand(clips, generator=generator), 0.0)
    dropped = torch.rand(clips, frames, hands, generator=generator) < rate[:, None, None]
    return replace(driving, hand_ok=driving.hand_ok & ~dropped.to(driving.hand_ok.device))


def some_frames(driving: Driving, share: float, seed: int) -> Driving:
    """Return a random `share` of the frames of driving windows, at least one frame, the same for all samples."""
    frames = driving.body.shape[1]
    order = torch.randperm(frames, generator=torch.Generator().manual_seed(seed))
    chosen = order[: max(1, round(share * frames))].sort().values.to(driving.body.device)
    return driving.map(lambda x: x[:, chosen])


def pose_loss(
    model: DiMo, batch: Batch, augment_seed: int | None, perspective: float, weight: float, joints_weight: float
) -> Terms:
    """Compute the loss of encoder and geometry head, without running the generator; `flow` is zero."""
    prediction = model.poses(batch, augment_seed, perspective)
    geometry = geometry_loss(prediction, batch, joints_weight)
    none = geometry.new_zeros(len(batch.target))
    return Terms(weight * geometry + sum(prediction.losses.values()), none.mean(), none, None, geometry)


def training_loss(
    model: DiMo,
    batch: Batch,
    conditions: Conditions,
    geometry_weight: float,
    joints_weight: float,
    perspective: float = 1.0,
) -> Terms:
    """Compute the loss of one batch; text dropout is applied before, by `with_text`.

    `joints_weight`: weight of joint positions within `geometry`. `perspective`: strength of perspective warps, 0 to 1.
    """
    prediction = model(
        batch,
        sigma=conditions.sigma,
        noise=conditions.noise,
        drop_motion=conditions.drop_motion,
        augment_seed=conditions.augment_seed,
        perspective=perspective,
        read_poses=geometry_weight > 0,
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
    if prediction.body6d is not None:
        geometry = geometry_loss(prediction, batch, joints_weight)
        loss = loss + geometry_weight * geometry
    loss = loss + sum(prediction.losses.values())
    return Terms(loss, flow, samples, weighted, geometry, prediction.losses)
