"""Summarise metrics.jsonl."""

from pathlib import Path
from typing import Any

from opendimo.training.log import read_metrics


def stage_losses(out: str | Path) -> list[dict[str, Any]]:
    """Return one entry per finished stage: `stage`, and its fixed loss `before` and `after`."""
    events = [record for record in read_metrics(Path(out) / "metrics.jsonl") if "event" in record]
    before = {e["stage"]: e["fixed_loss"] for e in events if e["event"] == "stage_start"}
    after = {e["stage"]: e["fixed_loss"] for e in events if e["event"] == "stage_end"}
    return [{"stage": stage, "before": before[stage], "after": after[stage]} for stage in after]
