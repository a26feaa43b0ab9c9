"""Train the tiny complete 3DiMo that the demo starts from: the miniature's recipe, on the studio's people.

The paper starts from a generator that was trained for months, and trains for days; a demo has minutes. So the demo
continues from this model, with takes and cameras of its own.
"""

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from opendimo.model.dimo import DiMo
from opendimo.training.log import read_metrics
from opendimo.training.miniature.arms import Size, full
from opendimo.training.miniature.lake import WorldConfig, miniature_release
from opendimo.training.schedule import Schedule, StageConfig
from opendimo.training.trainer import train

MIX = (("same_view", 0.4), ("cross_view", 0.4), ("moving_camera", 0.2))
"""All kinds of pairs from the first step on: the demo trains the stages."""
CHECKPOINT_EVERY = 200
"""Steps; sizes of the miniature store a checkpoint as often as their gate has steps."""
FROZEN = 0.85
"""Share of the generator's steps in which the motion encoder does not change."""


@dataclass(frozen=True)
class StudioConfig:
    """Size of the training: takes of the studio, steps of the encoder alone, steps of the generator in each round (the
    learning rate decays within a round), batch size. `seed`: of takes and weights; no other world uses it."""

    takes: int = 900
    encoder_steps: int = 1200
    rounds: tuple[int, ...] = (5000, 6000, 4000, 3500, 460)
    batch: int = 16
    seed: int = 8_000


def make_studio_model(
    out: Path, work: Path, base: Path, config: StudioConfig, on_progress: Callable[..., None] = lambda *_: None
) -> dict[str, Any]:
    """Write a trained 3DiMo to `out`, in half precision; return its last driver check.

    `work` holds the checkpoints from which an interrupted training resumes.
    """
    release = miniature_release(work / "lake", base, WorldConfig(config.takes, "studio", seed=config.seed))
    trained: Path | None = None
    for number, steps in enumerate(config.rounds):
        encoder = 0 if trained else config.encoder_steps
        run = full(base, Size(config.takes, CHECKPOINT_EVERY, 0.0, encoder, steps, config.batch, pairs=32))
        run = run.from_trained(trained) if trained else run
        schedule = _schedule(run.schedule, encoder, steps)
        run = replace(run, variant="full", seed=config.seed + number, preset="tiny")
        run = replace(run, schedule=schedule)
        result = train(release, run, work / f"round-{number + 1}", on_progress=on_progress)
        trained = result.checkpoint / "model"
    assert trained is not None, "at least one round"
    shutil.rmtree(out, ignore_errors=True)
    DiMo.load(trained).half().save(out)
    checks = [record for record in read_metrics(result.metrics) if record.get("event") == "driver_check"]
    return dict(checks[-1])


def _schedule(schedule: Schedule, encoder: int, generator: int) -> Schedule:
    """Return a schedule of one stage whose geometry loss stays to the end, because the demo continues with it."""
    steps = encoder + generator
    return replace(
        schedule,
        stages=(StageConfig("only", steps, MIX, schedule.stages[0].lr),),
        reading_steps=round(FROZEN * generator),
        hand_dropout=0.5,
        geometry_hold=steps,
        geometry_end=steps + 1,
    )
