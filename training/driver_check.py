"""Does the model follow its driver? Losses on fixed pairs with the true conditions and with wrong ones.

The loss of a step is mostly the luck of its noise level and noise; here pairs, noise levels and noise are the same each
time, so that the curves compare. Noise levels are spread as those of training are, so that it is training's loss. A
model that ignores its driver has the same loss with any driver: the gap (other - true) / true is then 0, whatever the
loss itself does.
"""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from opendimo.model.dimo import Batch, DiMo
from opendimo.model.flow import sigma_at
from opendimo.training.config import TrainConfig
from opendimo.training.data import TrainingData
from opendimo.training.objective import Conditions, training_loss, with_text
from opendimo.training.precision import computing
from opendimo.training.release import Pair
from opendimo.training.stages import StagePoint

CONDITIONS = ("true", "other", "none", "other_text", "no_text")
"""The true driver and text; the driver of another capture (of the training pairs where the held-out ones have but
one); no driver; another text; no text."""
NOISE_LEVELS = 4
"""Parts of equal share, from the least noise to the most, that losses are given for."""
SEED = 20_260_203
FIXED_BATCHES = 2
AT_ONCE = 8
"""Samples in one evaluation at most: all of a batch, without checkpoints, could take more memory than training."""


class DriverCheck:
    """The check of one run: `measure` gives the record of a step."""

    def __init__(
        self,
        train: TrainingData,
        held_out: TrainingData,
        kinds: list[str],
        config: TrainConfig,
        no_text: Tensor,
        shift: float,
    ) -> None:
        """`kinds` of pairs that training uses, `shift` of its noise levels.

        Held-out pairs are used where there are any, else training pairs.
        """
        self.config, self.no_text, self.shift = config, no_text, shift
        count = config.follow.pairs
        found = {kind: _fixed(held_out, kind, count) for kind in kinds}
        self.split, self.data = ("test", held_out) if any(found.values()) else ("train", train)
        if self.split == "train":
            found = {kind: _fixed(train, kind, count) for kind in kinds}
        self.pairs = [pair for pairs in found.values() for pair in pairs]
        self.references = self.data.other_moments(self.pairs, SEED) if self.pairs else []
        self.others = [_other(pair, self.data, train) for pair in self.pairs]
        self.note = _why_not(train) if self.split == "train" else None

    def measure(self, model: DiMo, step: int, stage: str) -> dict[str, Any]:
        """Return the record `driver_check` of metrics.jsonl."""
        losses = self._losses(model)  # {condition: [N], NaN where it cannot be measured}
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
            "gap": gap,
            "warning": self._warning(gap, step),
        }

    def _losses(self, model: DiMo) -> dict[str, Tensor]:
        """Flow loss of each pair under each of `CONDITIONS`."""
        device = next(model.parameters()).device
        noise_of = torch.Generator().manual_seed(SEED)
        sigmas = self._sigmas()
        parts: dict[str, list[Tensor]] = {name: [] for name in CONDITIONS}
        model.eval()
        for start in range(0, len(self.pairs), AT_ONCE):
            chosen = slice(start, start + AT_ONCE)
            batch = self.data.batch(self.pairs[chosen], self.references[chosen])
            noise = torch.randn(batch.target.shape, generator=noise_of).to(device)
            conditions = _conditions(sigmas[chosen].to(device), noise)
            others = self.others[chosen]
            known = [other or pair for other, pair in zip(others, self.pairs[chosen], strict=True)]
            other = self.data.batch(known)
            batch, other = batch.to(device), other.to(device)
            for name, (seen, told, ok) in self._wrong(batch, other, conditions, others).items():
                loss = sample_losses(model, seen, told, self.config.bf16).cpu()
                parts[name].append(torch.where(ok.cpu(), loss, torch.nan))
        model.train()
        return {name: torch.cat(found) for name, found in parts.items()}

    def _wrong(
        self, batch: Batch, other: Batch, conditions: Conditions, others: list[Pair | None]
    ) -> dict[str, tuple[Batch, Conditions, Tensor]]:
        """The batch under each of `CONDITIONS`, and which samples [B] of it can be measured."""
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
        """Noise levels [N], spread over the pairs of each kind as training's are."""
        counts: dict[str, int] = {}
        for pair in self.pairs:
            counts[pair.kind] = counts.get(pair.kind, 0) + 1
        return torch.cat([sigma_at((torch.arange(n) + 0.5) / n, self.shift) for n in counts.values()])

    def _by_noise(self, losses: dict[str, Tensor]) -> list[dict[str, float | None]]:
        """Losses of the quarters of all noise levels, each under the level in its middle."""
        middles = sigma_at((torch.arange(NOISE_LEVELS) + 0.5) / NOISE_LEVELS, self.shift)
        borders = sigma_at(torch.arange(1, NOISE_LEVELS) / NOISE_LEVELS, self.shift)
        level = torch.bucketize(self._sigmas(), borders)
        return [{"sigma": round(float(s), 3), **_means(losses, level == i)} for i, s in enumerate(middles)]

    def _warning(self, gap: float | None, step: int) -> str | None:
        policy = self.config.follow
        if gap is None or step < policy.from_step or gap >= policy.least_gap:
            return None
        return (
            f"the model hardly follows its driver: at step {step} another driver raises the loss by {100 * gap:.1f} %, "
            f"less than {100 * policy.least_gap:.0f} %. Train longer, look at the pose labels, raise the encoder's "
            "steps or its learning rate, or start from a trained encoder (--init-encoder)"
        )


def fixed_loss(model: DiMo, data: TrainingData, point: StagePoint, config: TrainConfig) -> float | None:
    """Return the mean flow loss on pairs of a stage's kinds, the same pairs, noise levels and noise each time.

    None where `data` has no pairs of these kinds.
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
    for start in range(0, len(pairs), AT_ONCE):
        batch = data.batch(pairs[start : start + AT_ONCE]).to(device)
        noise = torch.randn(batch.target.shape, generator=generator).to(device)
        conditions = _conditions(sigmas[start : start + AT_ONCE].to(device), noise)
        losses.append(sample_losses(model, batch, conditions, config.bf16))
    model.train()
    return float(torch.cat(losses).mean())


def sample_losses(model: DiMo, batch: Batch, conditions: Conditions, bf16: bool) -> Tensor:
    """Flow loss [B] of each sample."""
    with torch.inference_mode(), computing(batch.target.device, bf16):
        return training_loss(model, batch, conditions, 0, 0).samples


def _conditions(sigma: Tensor, noise: Tensor) -> Conditions:
    """Nothing dropped and nothing augmented."""
    none = torch.zeros(len(sigma), dtype=torch.bool, device=sigma.device)
    return Conditions(sigma, noise, none, none, None)


def _means(losses: dict[str, Tensor], chosen: Tensor) -> dict[str, float | None]:
    """Mean of each condition's losses [N] over the pairs that are `chosen` [N] and can be measured; None for none."""
    found = {name: values[chosen & ~values.isnan()] for name, values in losses.items()}
    return {name: float(values.mean()) if len(values) else None for name, values in found.items()}


def _fixed(data: TrainingData, kind: str, count: int) -> list[Pair]:
    """At most `count` different pairs of a kind, spread over captures; none where there are none."""
    try:
        return list(dict.fromkeys(data.fixed(kind, count, SEED)))
    except ValueError:
        return []


def _other(pair: Pair, *places: TrainingData) -> Pair | None:
    """A pair with the driver of another capture, from the first of `places` that has one."""
    for data in places:
        try:
            return data.other_driver(pair, SEED)
        except ValueError:
            continue
    return None


def _why_not(train: TrainingData) -> str:
    held_out = train.release.manifest.get("held_out") or {}
    why = "; ".join(dict.fromkeys((held_out.get("why_not") or {}).values()))
    return f"measured on training pairs: the release holds out none{f' ({why})' if why else ''}"
