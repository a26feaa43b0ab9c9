"""Run arms of the miniature in sequence; skip those that have results."""

import json
import math
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from opendimo.model.dimo import DiMo
from opendimo.storage_schemas.releases.release import Release
from opendimo.storage_schemas.rows import Row
from opendimo.training.checkpoints import latest
from opendimo.training.config import TrainConfig
from opendimo.training.data import TrainingData
from opendimo.training.driver_check import SEED
from opendimo.training.miniature.arms import SIZES, arm_config, full
from opendimo.training.miniature.lake import WorldConfig, miniature_release
from opendimo.training.miniature.measures import measure, write_row
from opendimo.training.miniature.probes import pose_r2
from opendimo.training.trainer import train


def run_arms(
    out: Path, base: Path, size: str, arms: Sequence[str], seeds: Sequence[int], report: Callable[[str], None]
) -> list[Row]:
    """Render the world, check the gate, train and measure every arm with every seed; return all rows of results.

    `report` receives lines of progress. Raises `RuntimeError` if the encoder fails the gate: no arm could learn.
    """
    settings = SIZES[size]
    release = miniature_release(out / f"lake-{size}", base, WorldConfig(settings.takes))
    _check_gate(
        out / f"gate-{size}",
        release,
        full(base, replace(settings, encoder_steps=settings.gate_steps)),
        settings.gate_r2,
        report,
    )
    results = out / f"results-{size}.jsonl"
    done = [json.loads(line) for line in results.read_text().splitlines()] if results.exists() else []
    for seed in seeds:
        for arm in arms:
            if any((row["arm"], row["seed"]) == (arm, seed) for row in done):
                continue
            began, cpu = time.time(), time.process_time()
            config = arm_config(base, settings, arm, seed)
            folder = out / f"{size}-{arm}-{seed}"
            row: Row = {"arm": arm, "seed": seed, "steps": config.schedule.steps}
            result = train(release, config, folder)
            row |= {"seconds": round(time.time() - began), "cpu_seconds": round(time.process_time() - cpu)}
            row |= measure(DiMo.load(result.checkpoint / "model"), release, config, folder)
            write_row(results, row)
            done.append(row)
            report(json.dumps(row))
    return done


def _check_gate(out: Path, release: Release, config: TrainConfig, least: float, report: Callable[[str], None]) -> None:
    """Train the encoder alone once per world, and check that it predicts poses with an R2 of at least `least`."""
    file = out / "gate.json"
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(gate(out / "run", release, config)))
    result = json.loads(file.read_text())
    r2, seconds = result["gate_r2"], result["gate_cpu_seconds"]
    report(f"gate: R2 of held-out joints is {r2:.2f} after {seconds:.0f} s of CPU time")
    if r2 < least:
        raise RuntimeError(
            f"the encoder predicts joints with R2 {r2:.2f}, below {least}: fix the encoder before training arms"
        )


class _GateReachedError(Exception):
    """Stop training after the encoder-only steps."""


def gate(out: Path, release: Release, config: TrainConfig) -> Row:
    """Train the encoder-only steps of a run in `out`, which `train` can resume.

    Returns R2 of held-out joints (`gate_r2`) and CPU time in seconds (`gate_cpu_seconds`).
    """
    steps = math.ceil(config.schedule.encoder_steps)

    def stop(done: int, _total: int, _record: Row) -> None:
        if done > steps:  # so that the checkpoint of the last of these steps is written
            raise _GateReachedError

    began = time.process_time()
    with suppress(_GateReachedError):
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
    "other": "loss, other driver",
    "none": "loss, no driver",
    "limbs_true_driver": "limb distance, true driver",
    "limbs_other_driver": "limb distance, other driver",
    "limbs_copy": "limb distance, repeated reference",
    "overlap_true_driver": "overlap, true driver",
    "overlap_copy": "overlap, repeated reference",
    "psnr_true_driver": "PSNR, true driver",
    "psnr_copy": "PSNR, repeated reference",
    "joints_r2": "joints R2",
    "azimuth_r2": "azimuth R2",
    "retrieval": "retrieval",
    "camera_followed": "true camera sentence best",
}
"""Headings of the measures in the table."""


def table(rows: Sequence[Row]) -> str:
    """Return a Markdown table of the mean over the seeds of each arm, with the range if there are several seeds."""
    arms = list(dict.fromkeys(row["arm"] for row in rows))
    lines = ["| arm | seeds | " + " | ".join(COLUMNS.values()) + " |", "|---|---|" + "---|" * len(COLUMNS)]
    for arm in arms:
        of_arm = [row for row in rows if row["arm"] == arm]
        cells = [_cell([row.get(name) for row in of_arm]) for name in COLUMNS]
        lines.append(f"| `{arm}` | {len(of_arm)} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(values: list[float | None]) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return ""
    mean = f"{sum(known) / len(known):.3f}"
    return mean if len(known) == 1 else f"{mean} ({min(known):.3f} to {max(known):.3f})"
