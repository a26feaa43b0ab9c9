"""Validation check that the model follows its driver: losses on fixed pairs with true and with wrong conditions.

The loss of a single step depends mostly on its noise level and noise. Here pairs, noise levels and noise are the same
each time, so that values are comparable. Noise levels have the distribution of training, so that the values estimate
the training loss. A model that ignores its driver has the same loss with any driver: the gap (other - true) / true is
then 0, whatever the loss itself does.
"""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from opendimo.model.dimo import Batch, DiMo
from opendimo.model.driving.regions import REGIONS, latent_regions
from opendimo.model.flow import sigma_at, velocity_target
from opendimo.training.config import TrainConfig
from opendimo.training.data import TrainingData
from opendimo.training.objective import Conditions, Terms, training_loss, with_text
from opendimo.training.precision import computing
from opendimo.training.release import Pair, chunks
from opendimo.training.schedule import StagePoint

CONDITIONS = ("true", "other", "none", "other_text", "no_text")
"""`true`: the true driver and text. `other`: the driver of another capture (from training pairs if all held-out ones
are of one capture). `none`: no driver. `other_text`: the text of another sample. `no_text`: no text."""
NOISE_LEVELS = 4
"""Number of quantiles of the noise level for which losses are reported separately."""
SEED = 20_260_203
FIXED_BATCHES = 2
CHUNK = 8
"""Maximum samples per forward pass: a whole batch without activation checkpointing could exceed memory."""


class DriverCheck:
    """The driver check of one run; `measure` returns the record of a step."""

    def __init__(
        self,
        train: TrainingData,
        held_out: TrainingData,
        kinds: list[str],
        config: TrainConfig,
        no_text: Tensor,
        shift: float,
    ) -> None:
        """Choose the pairs of the check: held-out pairs if there are any, else training pairs.

        `kinds`: kinds of pairs that training uses. `no_text`: embedding of the empty prompt. `shift`: of noise levels.
        """
        self.config, self.no_text, self.shift = config, no_text, shift
        count = config.follow.pairs
        by_kind = {kind: _fixed(held_out, kind, count) for kind in kinds}
        self.split, self.data = ("test", held_out) if any(by_kind.values()) else ("train", train)
        if self.split == "train":
            by_kind = {kind: _fixed(train, kind, count) for kind in kinds}
        self.pairs = [pair for pairs in by_kind.values() for pair in pairs]
        self.references = self.data.other_moments(self.pairs, SEED) if self.pairs else []
        self.others = [_other(pair, self.data, train) for pair in self.pairs]
        self.note = _training_note(train) if self.split == "train" else None

    def measure(self, model: DiMo, step: int, stage: str) -> dict[str, Any]:
        """Return the `driver_check` record for metrics.jsonl."""
        losses, regions, tokens = self._losses(model)
        true, other = losses["true"], losses["other"]
        comparable = ~other.isnan()
        gap = float(other[comparable].mean() / true[comparable].mean() - 1) if comparable.any() else None
        kinds = [pair.kind for pair in self.pairs]
        return {
            "event": "driver_check",
            "step": step,
            "stage": stage,
            "split": self.split,
            "note": self.note,
            "pairs": len(self.pairs),
            "loss": _means(losses, torch.ones_like(comparable)),
            "by_kind": {
                kind: _means(losses, torch.tensor([k == kind for k in kinds])) for kind in dict.fromkeys(kinds)
            },
            "by_noise": self._by_noise(losses),
            "by_region": {
                name: {condition: _mean(values[k]) for condition, values in regions.items()}
                for k, name in enumerate(REGIONS)
            },
            "tokens": tokens,
            "gap": gap,
            "warning": self._warning(gap, step),
        }

    def _losses(self, model: DiMo) -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, float]]:
        """Return the flow losses of each pair under each of `CONDITIONS`, NaN if not measurable, and facts of tokens.

        The losses are given over all latents, [N], and in each of `REGIONS`, [4, N]. These are known only if the
        labelled driver is seen by the camera of the target.
        """
        device = next(model.parameters()).device
        generator = torch.Generator().manual_seed(SEED)
        sigmas = self._sigmas()
        losses = {name: torch.full((len(self.pairs),), torch.nan) for name in CONDITIONS}
        regions = {name: torch.full((len(REGIONS), len(self.pairs)), torch.nan) for name in CONDITIONS}
        tokens: list[Tensor] = []
        model.eval()
        for chosen in chunks(self.pairs, CHUNK):
            pairs, others = [self.pairs[k] for k in chosen], [self.others[k] for k in chosen]
            batch = self.data.batch(pairs, [self.references[k] for k in chosen])
            noise = torch.randn(batch.target.shape, generator=generator).to(device)
            conditions = _conditions(sigmas[chosen].to(device), noise)
            other = self.data.batch([other or pair for other, pair in zip(others, pairs, strict=True)])
            batch, other = batch.to(device), other.to(device)
            places = _places(model, batch)
            tokens += _tokens(model, batch, self.config.bf16)
            for name, (changed, draws, ok) in self._conditioned(batch, other, conditions, others).items():
                terms = _terms(model, changed, draws, self.config.bf16)
                losses[name][chosen] = torch.where(ok, terms.samples, torch.nan).cpu()
                regions[name][:, chosen] = torch.where(ok, _in_regions(terms, changed, draws, places), torch.nan).cpu()
        model.train()
        return losses, regions, _facts_of_tokens(tokens)

    def _conditioned(
        self, batch: Batch, other: Batch, conditions: Conditions, others: list[Pair | None]
    ) -> dict[str, tuple[Batch, Conditions, Tensor]]:
        """Return the inputs of each of `CONDITIONS`, and a mask [B] of the samples that can be measured."""
        every = torch.ones(len(batch.target), dtype=torch.bool, device=batch.target.device)
        has_other = torch.tensor([pair is not None for pair in others], device=every.device)
        driven = replace(batch, driving=other.driving, same_view=~every)
        dropped = replace(conditions, drop_motion=every)
        rolled = replace(batch, text=batch.text.roll(1, 0), text_ok=batch.text_ok.roll(1, 0))
        differs = (rolled.text != batch.text).flatten(1).any(1)
        return {
            "true": (batch, conditions, every),
            "other": (driven, conditions, has_other),
            "none": (batch, dropped, every),
            "other_text": (rolled, conditions, differs),
            "no_text": (with_text(batch, every, self.no_text), conditions, every),
        }

    def _sigmas(self) -> Tensor:
        """Return noise levels [N]: within each kind of pair, evenly spaced quantiles of the training distribution."""
        counts: dict[str, int] = {}
        for pair in self.pairs:
            counts[pair.kind] = counts.get(pair.kind, 0) + 1
        return torch.cat([sigma_at((torch.arange(n) + 0.5) / n, self.shift) for n in counts.values()])

    def _by_noise(self, losses: dict[str, Tensor]) -> list[dict[str, float | None]]:
        """Return the losses of each quantile of the noise level, with the `sigma` at its centre."""
        centres = sigma_at((torch.arange(NOISE_LEVELS) + 0.5) / NOISE_LEVELS, self.shift)
        borders = sigma_at(torch.arange(1, NOISE_LEVELS) / NOISE_LEVELS, self.shift)
        level = torch.bucketize(self._sigmas(), borders)
        return [{"sigma": round(float(s), 3), **_means(losses, level == i)} for i, s in enumerate(centres)]

    def _warning(self, gap: float | None, step: int) -> str | None:
        policy = self.config.follow
        if gap is None or step < policy.from_step or gap >= policy.least_gap:
            return None
        return (
            f"the model hardly follows its driver: at step {step} another driver raises the loss by {100 * gap:.1f} %, "
            f"less than {100 * policy.least_gap:.0f} %. Train longer, inspect the pose labels, raise the encoder's "
            "steps or learning rate, or start from a trained encoder (--init-encoder)"
        )


def fixed_loss(model: DiMo, data: TrainingData, point: StagePoint, config: TrainConfig) -> float | None:
    """Return the mean flow loss on fixed pairs of a stage's kinds, with the same noise levels and noise each time.

    None if `data` has no pairs of these kinds.
    """
    try:
        pairs = data.fixed_of_stage(point, FIXED_BATCHES * config.batch_size, SEED)
    except ValueError:
        return None
    device = next(model.parameters()).device
    generator = torch.Generator().manual_seed(SEED)
    sigmas = (torch.arange(len(pairs)) + 0.5) / len(pairs)
    sigmas = sigmas[torch.randperm(len(pairs), generator=generator)]
    model.eval()
    losses = []
    for chosen in chunks(pairs, CHUNK):
        batch = data.batch([pairs[k] for k in chosen]).to(device)
        noise = torch.randn(batch.target.shape, generator=generator).to(device)
        conditions = _conditions(sigmas[chosen].to(device), noise)
        losses.append(_terms(model, batch, conditions, config.bf16).samples)
    model.train()
    return float(torch.cat(losses).mean())


def _terms(model: DiMo, batch: Batch, conditions: Conditions, bf16: bool) -> Terms:
    with torch.no_grad(), computing(batch.target.device, bf16):
        return training_loss(model, batch, conditions, 0, 0)


def _places(model: DiMo, batch: Batch) -> Tensor:
    """Return the cells of the targets in each of `REGIONS`, [4, B, L, h, w]; none where the view is another one."""
    frames, height, width = batch.target.shape[2:]
    stride = (batch.driving.body.shape[1] - 1) // max(1, frames - 1)
    places = latent_regions(batch.driving, frames, height, width, stride)
    places[:, :, : int(model.transformer.first_frame_is_given)] = False
    return places & batch.same_view[None, :, None, None, None]


def _in_regions(terms: Terms, batch: Batch, conditions: Conditions, places: Tensor) -> Tensor:
    """Return the flow loss of each sample in each region, [4, B]; NaN where a sample has no cell of it."""
    assert terms.velocity is not None
    truth = velocity_target(batch.target, conditions.noise)
    error = (terms.velocity.float() - truth.float()).square().mean(1)  # [B, L, h, w]
    inside = places.flatten(2).float()  # [4, B, L h w]
    return (inside * error.flatten(1)).sum(2) / inside.sum(2)


def _tokens(model: DiMo, batch: Batch, bf16: bool) -> list[Tensor]:
    """Return the motion tokens [T, N d] of each sample; none if the control has no tokens."""
    if not getattr(getattr(model, "control", None), "has_features", False):
        return []
    with torch.no_grad(), computing(batch.target.device, bf16):
        return list(model.features(batch).float().flatten(2).cpu())


def _facts_of_tokens(samples: list[Tensor]) -> dict[str, float]:
    """Return the root mean square of motion tokens [T, N d], and their standard deviation over frames divided by it.

    A spread near 0 means that the encoder does not see motion.
    """
    if not samples:
        return {}
    rms = float(torch.cat(samples).square().mean().sqrt())
    spread = float(torch.cat([(x - x.mean(0)) for x in samples]).square().mean().sqrt())
    return {"rms": rms, "spread": spread / rms if rms else 0.0}


def _conditions(sigma: Tensor, noise: Tensor) -> Conditions:
    """Return conditions without dropout and without augmentation."""
    none = torch.zeros(len(sigma), dtype=torch.bool, device=sigma.device)
    return Conditions(sigma, noise, none, none, None)


def _means(losses: dict[str, Tensor], chosen: Tensor) -> dict[str, float | None]:
    """Return each condition's mean loss [N] over measurable pairs in the mask `chosen` [N]; None if there are none."""
    return {name: _mean(values[chosen]) for name, values in losses.items()}


def _mean(values: Tensor) -> float | None:
    """Return the mean of the numbers among `values` [n]; None if there are none."""
    known = values[~values.isnan()]
    return float(known.mean()) if len(known) else None


def _fixed(data: TrainingData, kind: str, count: int) -> list[Pair]:
    """Return at most `count` distinct pairs of a kind, spread over captures; empty if there are none."""
    try:
        return list(dict.fromkeys(data.fixed(kind, count, SEED)))
    except ValueError:
        return []


def _other(pair: Pair, *splits: TrainingData) -> Pair | None:
    """Return a pair with the driver of another capture, from the first of `splits` that has one."""
    for data in splits:
        try:
            return data.other_driver(pair, SEED)
        except ValueError:
            continue
    return None


def _training_note(train: TrainingData) -> str:
    held_out = train.release.manifest.get("held_out") or {}
    why = "; ".join(dict.fromkeys((held_out.get("why_not") or {}).values()))
    return f"measured on training pairs: the release holds out none{f' ({why})' if why else ''}"
