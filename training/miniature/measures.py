"""What is measured of a trained arm on held-out takes: losses, generated clips, motion tokens, camera texts."""

import json
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.batch import Batch
from model.dimo import DiMo
from model.flow import TIMESTEPS, shifted
from model.signal import Signal
from model.vae import decode, load_vae
from training.config import TrainConfig
from training.data import TrainingData
from training.driver_check import SEED
from training.log import read_metrics
from training.miniature.colours import limb_errors, limb_overlap
from training.miniature.lake import TARGETS
from training.miniature.probes import TokenProbes, probe_tokens, tokens_of
from training.miniature.world import azimuth
from training.objective import Conditions, training_loss
from training.release import Pair, Release

Row = dict[str, Any]
CLIPS = 24
"""Held-out cross-view pairs that clips are generated for."""
SAMPLING_STEPS = 20
GUIDANCE = 2.0
"""Scale of classifier-free guidance for the motion of generated clips."""
PERSON_HEIGHT = 0.77 * TARGETS["limbs"]
"""Pixels: a person of 1.7 m at the middle distance of the world's cameras."""


def measure(model: DiMo, release: Release, config: TrainConfig, out: Path) -> Row:
    """Measure a trained model; write the generated clips' frames to `out`/clips.npz."""
    held_out = TrainingData(release, "test", config.model, reference_share=1.0)
    train = TrainingData(release, "train", config.model, reference_share=1.0)
    model.eval()
    with torch.inference_mode():
        found = _losses(out) | _clips(model, held_out, config, out) | _camera(model, held_out)
        if model.control.has_features:
            found |= _tokens(model, train, held_out, release)._asdict()
    return found


def _losses(out: Path) -> Row:
    """The newest driver check's numbers on cross-view pairs, and the gap of each kind of pair."""
    checks = [r for r in read_metrics(out / "metrics.jsonl") if r.get("event") == "driver_check"]
    by_kind = checks[-1]["by_kind"]
    gaps = {f"gap_{kind}": loss["other"] / loss["true"] - 1 for kind, loss in by_kind.items() if loss["other"]}
    return {name: by_kind["cross_view"][name] for name in ("true", "other", "none")} | gaps


def _clips(model: DiMo, data: TrainingData, config: TrainConfig, out: Path) -> Row:
    """Generate cross-view clips with the true and with another driver; compare them with the truth."""
    vae = load_vae(Path(config.base))
    guidance = GUIDANCE if config.schedule.motion_dropout < 1 else 0  # an arm without motion has learnt no driver
    pairs = data.fixed("cross_view", CLIPS, SEED)
    batch = data.batch(pairs, data.other_moments(pairs, SEED))
    other = replace(batch, driving=data.batch([data.other_driver(pair, SEED) for pair in pairs]).driving)
    made = {
        "truth": batch.target,
        "true_driver": generate(model, batch, 3.0, guidance),
        "other_driver": generate(model, other, 3.0, guidance),
        "copy": batch.reference.expand(-1, -1, batch.target.shape[2], -1, -1),
    }
    frames = {name: _frames(decode(vae, latents)) for name, latents in made.items()}
    frames["copy"] = np.repeat(frames["copy"][:, :1], frames["truth"].shape[1], axis=1)  # the picture, not its codes
    np.savez_compressed(out / "clips.npz", **frames)  # type: ignore[arg-type]
    found: Row = {}
    for name in ("true_driver", "other_driver", "copy"):
        errors = [limb_errors(a, b, PERSON_HEIGHT) for a, b in zip(frames[name], frames["truth"], strict=True)]
        overlaps = [limb_overlap(a, b) for a, b in zip(frames[name], frames["truth"], strict=True)]
        difference = frames[name].astype(np.float64) - frames["truth"]
        found[f"limbs_{name}"] = float(np.median(np.concatenate(errors)))
        found[f"overlap_{name}"] = float(np.mean(overlaps))
        found[f"psnr_{name}"] = float(np.mean(20 * np.log10(255 / np.sqrt((difference**2).mean((1, 2, 3, 4))))))
    return found


def generate(model: DiMo, batch: Batch, shift: float, guidance: float, steps: int = SAMPLING_STEPS) -> Tensor:
    """Sample latents [B, C, L, h, w] by Euler steps from noise that is the same each time.

    `guidance` is the scale of classifier-free guidance for the motion: 1 uses the driver's prediction alone, 0 that
    without a driver.
    """
    noise = torch.randn(batch.target.shape, generator=torch.Generator().manual_seed(SEED))
    grid = model.transformer.grid(noise)
    signals: list[tuple[float, Signal]] = [
        (weight, model.control(batch.driving, torch.full((len(noise),), present), grid))
        for weight, present in ((guidance, True), (1 - guidance, False))
        if weight
    ]
    sigmas = shifted(torch.linspace(1, 0, steps + 1), shift)
    latents = noise
    for sigma, following in pairwise(sigmas):
        timestep = (sigma * TIMESTEPS).expand(len(noise))
        velocity = sum(
            weight * model.transformer(latents, timestep, batch.text, batch.text_ok, signal, batch.reference)
            for weight, signal in signals
        )
        latents = latents + (following - sigma) * velocity
    return latents


def _frames(video: Tensor) -> NDArray[np.uint8]:
    """[B, 3, T, H, W] in [0, 1] -> [B, T, H, W, 3]."""
    return (255 * video.clamp(0, 1)).round().byte().permute(0, 2, 3, 4, 1).numpy()


def _camera(model: DiMo, data: TrainingData) -> Row:
    """Share of moving-camera windows whose own sentence has the lowest loss of all sentences of the world."""
    pairs = data.fixed("moving_camera", 32, SEED)
    batch = data.batch(pairs, data.other_moments(pairs, SEED))
    told_to = [tuple(text[ok].flatten().tolist()) for text, ok in zip(batch.text, batch.text_ok, strict=True)]
    sentences = dict(zip(told_to, zip(batch.text, batch.text_ok, strict=True), strict=True))
    generator = torch.Generator().manual_seed(SEED)
    losses = []
    for text, ok in sentences.values():
        told = replace(batch, text=text.expand_as(batch.text), text_ok=ok.expand_as(batch.text_ok))
        total = torch.zeros(len(pairs))
        generator.manual_seed(SEED)
        for sigma in (0.5, 0.7, 0.9):
            noise = torch.randn(batch.target.shape, generator=generator)
            none = torch.zeros(len(pairs), dtype=torch.bool)
            conditions = Conditions(torch.full((len(pairs),), sigma), noise, none, none, None)
            total += training_loss(model, told, conditions, 0, 0).samples
        losses.append(total)
    best = torch.stack(losses).argmin(0)
    own = [list(sentences).index(sentence) for sentence in told_to]
    return {"camera_followed": float((best == torch.tensor(own)).float().mean()), "camera_chance": 1 / len(sentences)}


def _tokens(model: DiMo, train: TrainingData, held_out: TrainingData, release: Release) -> TokenProbes:
    """Probes on windows of two views of each performance, side by side."""
    clips = release.read("clips", ["clip_id", "world_to_camera"])
    azimuths = {clip["clip_id"]: azimuth(clip["world_to_camera"]) for clip in clips}

    def gathered(data: TrainingData, count: int) -> list[tuple[Tensor, Batch, Tensor]]:
        return [
            (tokens_of(model, batch), batch, torch.tensor([azimuths[pair.driving_clip_id] for pair in pairs]))
            for pairs in _both_views(data, count)
            for batch in [data.batch(pairs)]
        ]

    return probe_tokens(gathered(train, 128), gathered(held_out, 64))


def _both_views(data: TrainingData, count: int) -> Iterator[list[Pair]]:
    """Batches of pairs of which each two in turn are one moment driven by either view."""
    pairs = [pair for pair in data.pairs if pair.kind == "cross_view" and pair.target_clip_id[-1] in "ab"]
    by_moment: dict[tuple[str, int], list[Pair]] = {}
    for pair in pairs:
        if pair.driving_clip_id[-1] in "ab":
            by_moment.setdefault((pair.capture_id, pair.target_start), []).append(pair)
    both = [found for found in by_moment.values() if len(found) == 2][:count]
    for start in range(0, len(both), 8):
        yield [pair for moment in both[start : start + 8] for pair in moment]


def write_row(path: Path, row: Row) -> None:
    """Append one result to a file of JSON lines."""
    with path.open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(row) + "\n")
