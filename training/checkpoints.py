"""Checkpoints of a run: OUT/checkpoints/step-N, written by `saving.py`.

A checkpoint holds the model, its moving average if the run has one, the optimizer state (safetensors files of all
processes), and `state.json`: the step (optimizer steps done), the release and its hash, the config, and the length of
metrics.jsonl at that moment. It needs no random state: the generators of every step are seeded with (seed, step).
"""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from opendimo.storage_schemas.ids import as_stored
from opendimo.training.config import FREE, TrainConfig
from opendimo.training.release import Release

if TYPE_CHECKING:  # reading the progress of a run should not import torch
    from opendimo.training.optimizer import PartsOptimizer
    from opendimo.training.parallel import World

KEEP = 2  # newest checkpoints to keep, besides the last of each stage


@contextmanager
def locked(out: Path, world: "World") -> Iterator[None]:
    """Create the folder of a run and keep other runs out of it. Raises `ValueError` if one trains there."""
    lock = FileLock(out / ".lock", timeout=0)

    def acquire() -> None:
        out.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire()
        except Timeout:
            raise ValueError(f"another process is training in {out}: wait for it, or choose another folder") from None

    world.on_first(acquire)
    try:
        yield
    finally:
        lock.release()


def latest(out: Path) -> Path | None:
    """Return the newest complete checkpoint, or None."""
    return max((out / "checkpoints").glob("step-*"), key=_step_of, default=None)


def steps_done(out: Path) -> int:
    """Return the steps of the newest complete checkpoint; 0 if there is none."""
    newest = latest(out)
    return int(read_state(newest)["step"]) if newest else 0


def new_state(step: int, release: Release, config: dict[str, Any], metrics_bytes: int) -> dict[str, Any]:
    """Return the content of a checkpoint's `state.json`."""
    return {
        "step": step,
        "release": release.id,
        "release_sha256": release.sha256,
        "config": config,
        "metrics_bytes": metrics_bytes,
    }


def read_state(checkpoint: Path) -> dict[str, Any]:
    """Return the content of a checkpoint's `state.json`."""
    state: dict[str, Any] = json.loads((checkpoint / "state.json").read_text())
    return state


def check_same_run(state: dict[str, Any], release: Release, config: dict[str, Any], out: Path) -> None:
    """Raise `ValueError`, with the reason, if the run in `out` has another release or config."""
    advice = f"use another folder than {out}, or the same release and config"
    if (state["release"], state["release_sha256"]) != (release.id, release.sha256):
        raise ValueError(
            f"cannot resume: the checkpoint was trained on {state['release']} ({state['release_sha256'][:12]}), "
            f"this is {release.id} ({release.sha256[:12]}): {advice}"
        )
    now, before = as_stored(config), state["config"]
    compared = {*now, *before} - {*FREE}  # an older version may have stored what is free now
    if changed := sorted(key for key in compared if now.get(key) != before.get(key)):
        raise ValueError(f"cannot resume: the config changed in {', '.join(changed)}: {advice}")


def is_finished(out: Path, release: Release, config: TrainConfig) -> bool:
    """Return whether all steps are done and the pipeline is written. Raises the `ValueError` of `check_same_run`."""
    if steps_done(out) < config.schedule.steps or not (out / "pipeline").exists():
        return False
    newest = latest(out)
    assert newest is not None
    check_same_run(read_state(newest), release, config.identity(), out)
    return True


def load_optimizer(checkpoint: Path, optimizer: "PartsOptimizer") -> None:
    """Restore the optimizer's state from a checkpoint. Raises `ValueError` for one of an older version."""
    if not (checkpoint / "optimizer").is_dir():
        raise ValueError(
            f"{checkpoint} was written by an older version and cannot be resumed: start a new run from its model with "
            f"--init-model {checkpoint / 'model'}"
        )
    optimizer.load(checkpoint / "optimizer")


def prune(out: Path, stage_ends: set[int]) -> None:
    """Remove all checkpoints except the `KEEP` newest and those at the end of a stage."""
    for old in sorted((out / "checkpoints").glob("step-*"), key=_step_of)[:-KEEP]:
        if _step_of(old) not in stage_ends:
            shutil.rmtree(old)


def _step_of(checkpoint: Path) -> int:
    return int(checkpoint.name.removeprefix("step-"))
