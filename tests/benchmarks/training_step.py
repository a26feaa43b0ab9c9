"""A step of the trainer against the same step bare, and a step with motion control against one of the base model.

The bare step has the same model and batch in plain torch: loss, gradients, clipping, AdamW. The step of the base model
is diffusers' own class with the same video tokens; what motion control may add to its time is what it adds in FLOPs.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from diffusers.models.transformers.transformer_wan import WanTransformer3DModel
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from opendimo.model.backbones.wan import WanMotionTransformer3DModel
from opendimo.model.batch import Batch, Driving
from opendimo.model.config import DiMoConfig
from opendimo.model.dimo import DiMo, generator_settings
from opendimo.model.encoder.config import EncoderConfig
from opendimo.model.flow import TIMESTEPS, flow_loss, noisy, sample_sigma
from opendimo.storage_schemas.lake.lake import Lake
from opendimo.storage_schemas.releases.release import Release, create_release, open_release
from opendimo.training.config import FollowPolicy, TrainConfig, preset
from opendimo.training.data import TrainingData
from opendimo.training.initial import initial_model
from opendimo.training.schedule import Schedule, StageConfig
from opendimo.training.tiny_base import PRETRAINED
from opendimo.training.trainer import train
from tests.benchmarks.side_by_side import compare
from tests.training.conftest import fill

STEPS = 30
SKIPPED = 5
"""Steps at the start of a run that are not timed."""


def main() -> None:
    """Time both."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        trainer_overhead(Path(folder), rounds)
    cost_of_control(rounds)


def trainer_overhead(folder: Path, rounds: int) -> None:
    """Compare steps of the trainer (without reading, checks and checkpoints) with bare ones."""
    lake = Lake(folder / "lake")
    fill(lake, PRETRAINED)
    release = open_release(lake.uri, create_release(lake, "small")["release_id"])
    config = plain_config()
    ours: list[float] = []
    bare: list[float] = []
    for k in range(rounds):
        ours.append(trainer_step(release, config, folder / f"run-{k}"))
        bare.append(bare_step(release, config))
    shares = [one / other for one, other in zip(ours, bare, strict=True)]
    print(
        f"step of the trainer {1e3 * statistics.median(ours):.1f} ms, bare {1e3 * statistics.median(bare):.1f} ms; "
        f"trainer / bare {statistics.median(shares):.3f} ({min(shares):.3f} - {max(shares):.3f})"
    )


def plain_config() -> TrainConfig:
    """Return a config of one stage without geometry, whose steps are all alike."""
    config = preset("tiny", PRETRAINED)
    stage = StageConfig("only", STEPS, (("same_view", 1.0),), 1e-4)
    return replace(
        config,
        schedule=Schedule((stage,)),
        model=replace(config.model, geometry=False),
        batch_size=8,
        reference_share=0.0,
        checkpoint_every=10 * STEPS,
        follow=FollowPolicy(every=10 * STEPS, pairs=1),
    )


def trainer_step(release: Release, config: TrainConfig, out: Path) -> float:
    """Return the median seconds of a step of a run."""
    records = [json.loads(line) for line in train(release, config, out).metrics.read_text().splitlines()]
    return statistics.median([r["seconds"] for r in records if "event" not in r][SKIPPED:])


def bare_step(release: Release, config: TrainConfig) -> float:
    """Return the median seconds of the same steps in plain torch."""
    torch.manual_seed(config.seed)
    model = initial_model(config).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    data = TrainingData(release, "train", config.model, reference_share=0.0)
    seconds = []
    for stored in data.batches(0, STEPS, config.schedule, config.batch_size, config.seed):
        batch = stored.as_floats()
        started = time.perf_counter()
        one_step(model, optimizer, batch, config)
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds[SKIPPED:])


def one_step(model: DiMo, optimizer: torch.optim.Optimizer, batch: Batch, config: TrainConfig) -> None:
    """Update the weights by one batch."""
    count = len(batch.target)
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(batch.target.shape, generator=generator)
    sigma = sample_sigma(count, 3.0, generator)
    optimizer.zero_grad()
    prediction = model(
        batch,
        sigma=sigma,
        noise=noise,
        drop_motion=torch.zeros(count, dtype=torch.bool),
        augment_seeds=list(range(count)),
    )
    loss = flow_loss(prediction.velocity, batch.target, noise).mean()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), config.grad_clip)
    optimizer.step()
    float(loss.detach())


# TI2V-5B's shape in small: a sixth of its width and tokens of a 25-frame clip; the encoder likewise
WIDTH: dict[str, Any] = {
    "num_attention_heads": 4, "attention_head_dim": 128, "ffn_dim": 2304, "num_layers": 4, "text_dim": 256,
    "freq_dim": 256, "in_channels": 48, "out_channels": 48,
}  # fmt: skip
LATENTS = (48, 7, 30, 52)
ENCODER = EncoderConfig(width=128, depth=12, heads=2, dim=128)


def cost_of_control(rounds: int) -> None:
    """Compare a training step of the base model with one that is controlled by motion tokens."""
    torch.manual_seed(0)
    config = DiMoConfig(encoder=ENCODER, geometry=False, reference="first_frame")
    plain = WanTransformer3DModel(**WIDTH).train()
    controlled = DiMo.around(WanMotionTransformer3DModel(**WIDTH, **generator_settings(config)), config)
    frames = 4 * (LATENTS[1] - 1) + 1
    target, text = torch.randn(1, *LATENTS), torch.randn(1, 64, 256)
    driving = Driving.zeros(1, frames, ENCODER.body_size, ENCODER.hand_size)
    driving = replace(driving, hand_ok=~driving.hand_ok)
    every = torch.ones(1, dtype=torch.bool)
    batch = Batch(target, target[:, :, :1], text, every.expand(1, 64), torch.ones(1), every, driving)
    noise, sigma = torch.randn_like(target), torch.tensor([0.5])

    def base() -> None:
        timestep = (sigma * TIMESTEPS)[:, None].expand(1, LATENTS[1] * LATENTS[2] * LATENTS[3] // 4)
        finish(plain(noisy(target, noise, sigma), timestep, text, return_dict=False)[0], plain)

    def ours() -> None:
        prediction = controlled(batch, sigma=sigma, noise=noise, drop_motion=~every, augment_seeds=None)
        finish(prediction.velocity, controlled)

    def finish(velocity: Tensor, model: torch.nn.Module) -> None:
        flow_loss(velocity, target, noise).mean().backward()
        model.zero_grad(set_to_none=True)

    share = flops(ours) / flops(base)
    compare("step with motion control (ours) and of the base model (reference)", ours, base, rounds)
    print(f"FLOPs: {share:.3f} of the base model's; wanted: at most {share + 0.05:.3f} of its time")


def flops(job: Callable[[], None]) -> int:
    """Return the FLOPs of a job, forward and backward."""
    with FlopCounterMode(display=False) as counter:
        job()
    return int(counter.get_total_flops())


if __name__ == "__main__":
    main()
