"""Measure a trained arm on held-out takes: losses, generated clips, motion tokens, camera sentences."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from opendimo.model.base_folder import base_folder
from opendimo.model.batch import Batch
from opendimo.model.dimo import DiMo
from opendimo.model.flow import scheduler_shift
from opendimo.model.vae import decode, load_vae
from opendimo.storage_schemas.rows import Row
from opendimo.training.config import TrainConfig
from opendimo.training.data import TrainingData
from opendimo.training.driver_check import SEED, DriverCheck
from opendimo.training.miniature.colours import limb_errors, limb_overlap
from opendimo.training.miniature.lake import TARGETS
from opendimo.training.miniature.probes import TokenProbes, probe_tokens, tokens_of
from opendimo.training.miniature.world import azimuth
from opendimo.training.no_text import empty_prompt
from opendimo.training.objective import Conditions, training_loss
from opendimo.training.release import Pair, Release
from opendimo.training.samples import sample

CLIPS = 24
"""Number of held-out cross-view pairs for which clips are generated."""
SAMPLING_STEPS = 20
KINDS = ["cross_view", "moving_camera", "same_view"]
GUIDANCE = 2.0
"""Classifier-free guidance scale for the motion of generated clips."""
PERSON_HEIGHT = 0.77 * TARGETS["limbs"]
"""Height in pixels of a person of 1.7 m at the mean camera distance."""


def measure(model: DiMo, release: Release, config: TrainConfig, out: Path) -> Row:
    """Measure a trained model; write the frames of generated clips to `out`/clips.npz."""
    held_out = TrainingData(release, "test", config.model, reference_share=1.0)
    train = TrainingData(release, "train", config.model, reference_share=1.0)
    losses = _losses(model, release, config, out)
    model.eval()
    with torch.inference_mode():
        measures = losses | _clips(model, held_out, config, out) | _camera(model, held_out)
        if model.control.has_features:
            measures |= _tokens(model, train, held_out, release)._asdict()
    return measures


def _losses(model: DiMo, release: Release, config: TrainConfig, out: Path) -> Row:
    """Return losses on cross-view pairs, and the gap for each kind of pair, also of kinds that the arm never saw."""
    shift = scheduler_shift(base_folder(config.base)) if config.shift is None else config.shift
    train, held_out = (
        TrainingData(release, split, config.model, reference_share=config.reference_share)
        for split in ("train", "test")
    )
    check = DriverCheck(train, held_out, KINDS, config, empty_prompt(config.base, out), shift)
    by_kind = check.measure(model, config.schedule.steps, "end")["by_kind"]
    gaps = {f"gap_{kind}": loss["other"] / loss["true"] - 1 for kind, loss in by_kind.items() if loss["other"]}
    return {name: by_kind["cross_view"][name] for name in ("true", "other", "none")} | gaps


def _clips(model: DiMo, data: TrainingData, config: TrainConfig, out: Path) -> Row:
    """Generate cross-view clips with the true driver and with another one; compare them with the true clips."""
    vae = load_vae(Path(config.base))
    guidance = GUIDANCE if config.schedule.motion_dropout < 1 else 0  # `no_motion` never saw a driver
    pairs = data.fixed("cross_view", CLIPS, SEED)
    batch = data.batch(pairs, data.other_moments(pairs, SEED))
    other = replace(batch, driving=data.batch([data.other_driver(pair, SEED) for pair in pairs]).driving)
    latents = {
        "truth": batch.target,
        "true_driver": sample(model, batch, 3.0, guidance, SAMPLING_STEPS),
        "other_driver": sample(model, other, 3.0, guidance, SAMPLING_STEPS),
        "copy": batch.reference.expand(-1, -1, batch.target.shape[2], -1, -1),
    }
    frames = {name: _frames(decode(vae, clips)) for name, clips in latents.items()}
    frames["copy"] = np.repeat(frames["copy"][:, :1], frames["truth"].shape[1], axis=1)  # the image, not its latent
    np.savez_compressed(out / "clips.npz", **frames)  # type: ignore[arg-type]
    measures: Row = {}
    for name in ("true_driver", "other_driver", "copy"):
        errors = [limb_errors(a, b, PERSON_HEIGHT) for a, b in zip(frames[name], frames["truth"], strict=True)]
        overlaps = [limb_overlap(a, b) for a, b in zip(frames[name], frames["truth"], strict=True)]
        difference = frames[name].astype(np.float64) - frames["truth"]
        measures[f"limbs_{name}"] = float(np.median(np.concatenate(errors)))
        measures[f"overlap_{name}"] = float(np.mean(overlaps))
        measures[f"psnr_{name}"] = float(np.mean(20 * np.log10(255 / np.sqrt((difference**2).mean((1, 2, 3, 4))))))
    return measures


def _frames(video: Tensor) -> NDArray[np.uint8]:
    """Convert [B, 3, T, H, W] in [0, 1] to [B, T, H, W, 3]."""
    return (255 * video.clamp(0, 1)).round().byte().permute(0, 2, 3, 4, 1).numpy()


def _camera(model: DiMo, data: TrainingData) -> Row:
    """Return the share of moving-camera windows for which the true camera sentence has the lowest loss of all."""
    pairs = data.fixed("moving_camera", 32, SEED)
    batch = data.batch(pairs, data.other_moments(pairs, SEED))
    text_keys = [tuple(text[ok].flatten().tolist()) for text, ok in zip(batch.text, batch.text_ok, strict=True)]
    sentences = dict(zip(text_keys, zip(batch.text, batch.text_ok, strict=True), strict=True))
    generator = torch.Generator().manual_seed(SEED)
    losses = []
    for text, ok in sentences.values():
        conditioned = replace(batch, text=text.expand_as(batch.text), text_ok=ok.expand_as(batch.text_ok))
        total = torch.zeros(len(pairs))
        generator.manual_seed(SEED)
        for sigma in (0.5, 0.7, 0.9):
            noise = torch.randn(batch.target.shape, generator=generator)
            none = torch.zeros(len(pairs), dtype=torch.bool)
            conditions = Conditions(torch.full((len(pairs),), sigma), noise, none, none, None)
            total += training_loss(model, conditioned, conditions, 0, 0).samples
        losses.append(total)
    best = torch.stack(losses).argmin(0)
    true = [list(sentences).index(sentence) for sentence in text_keys]
    return {"camera_followed": float((best == torch.tensor(true)).float().mean()), "camera_chance": 1 / len(sentences)}


def _tokens(model: DiMo, train: TrainingData, held_out: TrainingData, release: Release) -> TokenProbes:
    """Fit probes on training windows and measure them on held-out windows, in batches of both views of a moment."""
    clips = release.read("clips", ["clip_id", "world_to_camera"])
    azimuths = {clip["clip_id"]: azimuth(clip["world_to_camera"]) for clip in clips}

    def token_batches(data: TrainingData, count: int) -> list[tuple[Tensor, Batch, Tensor]]:
        return [
            (tokens_of(model, batch), batch, torch.tensor([azimuths[pair.driving_clip_id] for pair in pairs]))
            for pairs in _both_views(data, count)
            for batch in [data.batch(pairs)]
        ]

    return probe_tokens(token_batches(train, 128), token_batches(held_out, 64))


def _both_views(data: TrainingData, count: int) -> Iterator[list[Pair]]:
    """Yield batches of pairs; two consecutive pairs show one moment, with the drivers of both views."""
    pairs = [pair for pair in data.pairs if pair.kind == "cross_view" and pair.target_clip_id[-1] in "ab"]
    by_moment: dict[tuple[str, int], list[Pair]] = {}
    for pair in pairs:
        if pair.driving_clip_id[-1] in "ab":
            by_moment.setdefault((pair.capture_id, pair.target_start), []).append(pair)
    moments = [drivers for drivers in by_moment.values() if len(drivers) == 2][:count]
    for start in range(0, len(moments), 8):
        yield [pair for moment in moments[start : start + 8] for pair in moment]


def write_row(path: Path, row: Row) -> None:
    """Append a result to a file of JSON lines."""
    with path.open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(row) + "\n")
