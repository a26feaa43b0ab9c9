"""Summarise a run: its losses, and the newest sample video."""

from pathlib import Path
from typing import Any

from opendimo.training.log import read_metrics

SAMPLES = "samples"
"""Folder of a run with its sample videos, step-N.mp4."""


def newest_samples(out: str | Path) -> Path | None:
    """Return the newest sample video of the run in `out`, if there is one."""
    videos = (Path(out) / SAMPLES).glob("step-*.mp4")
    return max(videos, key=lambda file: int(file.stem.removeprefix("step-")), default=None)


def stage_losses(out: str | Path) -> list[dict[str, Any]]:
    """Return one entry per finished stage: `stage`, and its fixed loss `before` and `after`."""
    events = [record for record in read_metrics(Path(out) / "metrics.jsonl") if "event" in record]
    before = {e["stage"]: e["fixed_loss"] for e in events if e["event"] == "stage_start"}
    after = {e["stage"]: e["fixed_loss"] for e in events if e["event"] == "stage_end"}
    return [{"stage": stage, "before": before[stage], "after": after[stage]} for stage in after]
