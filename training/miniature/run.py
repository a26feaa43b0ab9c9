"""Run arms of the miniature one after the other; finished ones are not run again."""

import json
import math
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from model.dimo import DiMo
from storage_schemas.releases.release import Release
from training.checkpoints import latest
from training.config import TrainConfig
from training.data import TrainingData
from training.driver_check import SEED
from training.miniature.arms import SIZES, arm_config, full
from training.miniature.lake import WorldConfig, miniature_release
from training.miniature.measures import measure, write_row
from training.miniature.probes import pose_r2
from training.trainer import train

Row = dict[str, Any]


def run_arms(
    out: Path, base: Path, size: str, arms: Sequence[str], seeds: Sequence[int], say: Callable[[str], None]
) -> list[Row]:
    """Film the world, pass the gate, train and measure every arm with every seed; return a row for each.

    Raises `RuntimeError` where the encoder does not pass the gate: no arm is worth its time then.
    """
    chosen = SIZES[size]
    release = miniature_release(out / f"lake-{size}", base, WorldConfig(chosen.takes))
    _pass_gate(
        out / f"gate-{size}", release, full(base, replace(chosen, encoder_steps=chosen.gate_steps)), chosen.gate_r2, say
    )
    results = out / f"results-{size}.jsonl"
    done = [json.loads(line) for line in results.read_text().splitlines()] if results.exists() else []
    for seed in seeds:
        for arm in arms:
            if any((row["arm"], row["seed"]) == (arm, seed) for row in done):
                continue
            began, cpu = time.time(), time.process_time()
            config = arm_config(base, chosen, arm, seed)
            folder = out / f"{size}-{arm}-{seed}"
            row: Row = {"arm": arm, "seed": seed, "steps": config.schedule.steps}
            result = train(release, config, folder)
            row |= {"seconds": round(time.time() - began), "cpu_seconds": round(time.process_time() - cpu)}
            row |= measure(DiMo.load(result.checkpoint / "model"), release, config, folder)
            write_row(results, row)
            done.append(row)
            say(json.dumps(row))
    return done


def _pass_gate(out: Path, release: Release, config: TrainConfig, least: float, say: Callable[[str], None]) -> None:
    """Train the encoder alone once per world, and see that it reads poses."""
    file = out / "gate.json"
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(gate(out / "run", release, config)))
    passed = json.loads(file.read_text())
    r2, seconds = passed["gate_r2"], passed["gate_cpu_seconds"]
    say(f"gate: R2 of held-out joints is {r2:.2f} after {seconds:.0f} s of processor time")
    if r2 < least:
        raise RuntimeError(
            f"the encoder reads joints with an R2 of {r2:.2f}, {least} is wanted: mend it before any arm"
        )


class _ReachedError(Exception):
    """The steps that train the encoder alone are done."""


def gate(out: Path, release: Release, config: TrainConfig) -> Row:
    """Train encoder and geometry head alone, as the first steps of a run in `out`, which `train` would continue.

    Returns R2 of held-out joints and the seconds of processor time it took.
    """
    steps = math.ceil(config.schedule.encoder_steps)

    def stop(done: int, _total: int, _record: Row) -> None:
        if done > steps:  # the checkpoint of the step before is written
            raise _ReachedError

    began = time.process_time()
    with suppress(_ReachedError):
        train(release, config, out, on_progress=stop)
    seconds = time.process_time() - began
    checkpoint = latest(out)
    assert checkpoint is not None
    held_out = TrainingData(release, "test", config.model, reference_share=0)
    r2 = pose_r2(DiMo.load(checkpoint / "model"), held_out.batch(held_out.fixed("same_view", 48, SEED)))
    return {"gate_r2": r2, "gate_cpu_seconds": round(seconds, 1)}


COLUMNS = {
    "gap_cross_view": "gap, cross view",
    "gap_same_view": "gap, same view",
    "true": "loss, true driver",
    "other": "other",
    "none": "none",
    "limbs_true_driver": "limbs off",
    "limbs_other_driver": "with another driver",
    "limbs_copy": "copy",
    "overlap_true_driver": "overlap",
    "overlap_copy": "copy's",
    "psnr_true_driver": "PSNR",
    "psnr_copy": "copy's",
    "joints_r2": "joints R2",
    "azimuth_r2": "azimuth R2",
    "retrieval": "retrieval",
    "camera_followed": "camera",
}
"""Measures of the table, and their headings."""


def table(rows: Sequence[Row]) -> str:
    """Return the results as Markdown: the mean over the seeds of an arm, and the range where there are several."""
    arms = list(dict.fromkeys(row["arm"] for row in rows))
    lines = ["| arm | seeds | " + " | ".join(COLUMNS.values()) + " |", "|---|---|" + "---|" * len(COLUMNS)]
    for arm in arms:
        of = [row for row in rows if row["arm"] == arm]
        cells = [_cell([row.get(name) for row in of]) for name in COLUMNS]
        lines.append(f"| `{arm}` | {len(of)} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(values: list[float | None]) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return ""
    mean = f"{sum(known) / len(known):.3f}"
    return mean if len(known) == 1 else f"{mean} ({min(known):.3f} to {max(known):.3f})"
