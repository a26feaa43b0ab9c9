"""Train the tiny whole 3DiMo that the demo starts from: the miniature's recipe, on the studio's people.

The paper starts from a generator that took months to train, and trains for days; a demo has minutes. So the demo goes
on where this ends, with takes and cameras of its own.
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
from opendimo.training.stages import Schedule, StageConfig
from opendimo.training.trainer import train


@dataclass(frozen=True)
class StudioConfig:
    """How much is seen and for how long. `seed` is that of takes and weights; no other world uses it."""

    takes: int = 900
    encoder_steps: int = 1200
    generator_steps: int = 5000
    batch: int = 16
    seed: int = 8_000


def make_studio_model(
    out: Path, work: Path, base: Path, config: StudioConfig, on_progress: Callable[..., None] = lambda *_: None
) -> dict[str, Any]:
    """Write a trained 3DiMo to `out`, in half precision; return its last driver check. `work` keeps what resumes it."""
    release = miniature_release(work / "lake", base, WorldConfig(config.takes, "studio", seed=config.seed))
    size = Size(config.takes, 0, 0.0, config.encoder_steps, config.generator_steps, config.batch, pairs=32)
    run = replace(full(base, size), variant="full", seed=config.seed, preset="tiny")
    run = replace(run, schedule=_schedule(run.schedule, config), checkpoint_every=200)
    result = train(release, run, work / "run", on_progress=on_progress)
    model = DiMo.load(result.checkpoint / "model").half()
    shutil.rmtree(out, ignore_errors=True)
    model.save(out)
    checks = [record for record in read_metrics(result.metrics) if record.get("event") == "driver_check"]
    return dict(checks[-1])


def _schedule(of: Schedule, config: StudioConfig) -> Schedule:
    """All kinds of pairs from the first step on, tokens that stay most of the time, and a geometry head to the end: the
    demo goes on training it."""
    mix = (("same_view", 0.4), ("cross_view", 0.4), ("moving_camera", 0.2))
    return replace(
        of,
        stages=(StageConfig("only", of.steps, mix, of.stages[0].lr),),
        reading_steps=round(0.85 * config.generator_steps),
        geometry_hold=of.steps,
        geometry_end=of.steps + 1,
    )
