"""The loss of a step: flow matching, the geometric term while its weight is not zero, and what the control adds."""

from dataclasses import dataclass, field, fields, replace

import torch
from torch import Tensor
from torch.nn.functional import interpolate, pad

from opendimo.model.dimo import Batch, DiMo, Driving
from opendimo.model.flow import flow_loss, per_sample, sample_sigma
from opendimo.model.geometry import geometry_loss


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
    """Scalars: `loss` = `flow` (or `weighted_flow`, where the control weighs regions) + weight * `geometry` + the sum
    of `control`, the control's own losses by name. None where there is no such term. Both flows are means over the
    latent frames that are predicted; `samples` [B] are those of which `flow` is the mean."""

    loss: Tensor
    flow: Tensor
    samples: Tensor
    weighted_flow: Tensor | None = None
    geometry: Tensor | None = None
    control: dict[str, Tensor] = field(default_factory=dict)

    def as_floats(self) -> dict[str, float | None]:
        """All terms by name."""
        terms = {
            f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("control", "samples")
        } | self.control
        return {name: None if term is None else float(term.detach()) for name, term in terms.items()}


def draw(batch: Batch, step: int, seed: int, *, shift: float, text_dropout: float, motion_dropout: float) -> Conditions:
    """The random part of `step`, from (seed, step) alone; on the CPU, so that devices agree. `shift`: of sigma."""
    generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
    n, device = len(batch.target), batch.target.device
    sigma = sample_sigma(n, shift, generator)
    noise = torch.randn(batch.target.shape, generator=generator)
    dropped = torch.rand(2, n, generator=generator) < torch.tensor([[text_dropout], [motion_dropout]])
    augment_seed = int(torch.randint(2**62, (), generator=generator))
    return Conditions(sigma.to(device), noise.to(device), dropped[0].to(device), dropped[1].to(device), augment_seed)


def with_text(batch: Batch, chosen: Tensor, text: Tensor) -> Batch:
    """Give the samples that are `chosen` [B] the embedding `text` [n, D] in the place of their own."""
    length = max(batch.text.shape[1], len(text))
    own = pad(batch.text, (0, 0, 0, length - batch.text.shape[1]))  # [B, length, D]
    own_ok = pad(batch.text_ok, (0, length - batch.text_ok.shape[1]))
    other = pad(text.to(own), (0, 0, 0, length - len(text)))
    other_ok = torch.arange(length, device=own.device) < len(text)
    return replace(
        batch,
        text=torch.where(chosen[:, None, None], other, own),
        text_ok=torch.where(chosen[:, None], other_ok, own_ok),
    )


def some_frames(driving: Driving, share: float, seed: int) -> Driving:
    """Return a random share of the frames of driving windows, at least one, the same frames of all samples."""
    frames = driving.body.shape[1]
    order = torch.randperm(frames, generator=torch.Generator().manual_seed(seed))
    chosen = order[: max(1, round(share * frames))].sort().values.to(driving.body.device)
    return driving.map(lambda x: x[:, chosen])


def pose_loss(
    model: DiMo, batch: Batch, augment_seed: int | None, perspective: float, weight: float, joints_weight: float
) -> Terms:
    """Compute the loss of encoder and geometry head alone: `flow` is zero, the generator is not run."""
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
    """Compute the loss of one batch whose text was dropped already (`with_text`).

    `joints_weight` is that of places of joints within `geometry`; `perspective` the share of the strength of warps.
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
    given = int(model.transformer.first_frame_is_given)  # latent frame 0, whose error of 0 would lower the mean
    velocity, target, noise = (x[:, :, given:] for x in (prediction.velocity, batch.target, conditions.noise))
    samples = flow_loss(velocity, target, noise)
    flow = loss = samples.mean()
    weighted = geometry = None
    if prediction.loss_weight is not None:
        weight = interpolate(prediction.loss_weight, batch.target.shape[2:])[:, :, given:]  # of tokens -> of latents
        weight = torch.where(per_sample(batch.same_view, weight), weight, 1.0)  # places are those of the driver's view
        weight = weight / weight.mean(dim=(1, 2, 3, 4), keepdim=True)  # which is 1, unless a frame is left out
        loss = weighted = flow_loss(velocity, target, noise, weight).mean()
    if prediction.body6d is not None:
        geometry = geometry_loss(prediction, batch, joints_weight)
        loss = loss + geometry_weight * geometry
    loss = loss + sum(prediction.losses.values())
    return Terms(loss, flow, samples, weighted, geometry, prediction.losses)
