"""Train the tiny whole 3DiMo that the demo starts from: the miniature's recipe, on the studio's people.

The paper starts from a generator that took months to train, and trains for days; a demo has minutes. So the demo goes
on where this ends, with takes and cameras of its own.
"""

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from model.dimo import DiMo
from training.log import read_metrics
from training.miniature.arms import Size, full
from training.miniature.lake import WorldConfig, miniature_release
from training.trainer import train


@dataclass(frozen=True)
class TrainedConfig:
    """How much is seen and for how long. `seed` is that of takes and weights; no other world uses it."""

    takes: int = 600
    encoder_steps: int = 1200
    steps: int = 3000
    batch: int = 16
    seed: int = 8_000


def make_trained(
    out: Path, work: Path, base: Path, config: TrainedConfig, on_progress: Callable[..., None] = lambda *_: None
) -> dict[str, Any]:
    """Write a trained 3DiMo to `out`, in half precision; return its last driver check. Resumable: `work` keeps all."""
    release = miniature_release(work / "lake", base, WorldConfig(config.takes, "studio", seed=config.seed))
    size = Size(config.takes, config.encoder_steps, config.steps, config.batch, pairs=32)
    run = replace(full(base, size), variant="full", seed=config.seed, preset="tiny")
    kept = replace(run.schedule, geometry_hold=config.steps, geometry_end=config.steps + 1)  # the demo reads poses, too
    run = replace(run, schedule=kept, checkpoint_every=200)
    result = train(release, run, work / "run", on_progress=on_progress)
    model = DiMo.load(result.checkpoint / "model").half()
    shutil.rmtree(out, ignore_errors=True)
    model.save(out)
    checks = [record for record in read_metrics(result.metrics) if record.get("event") == "driver_check"]
    return dict(checks[-1])
