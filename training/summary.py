"""What training did, in a line per stage."""

from pathlib import Path
from typing import Any

from training.log import read_metrics


def stage_losses(out: Path) -> list[dict[str, Any]]:
    """Fixed loss (same pairs, noise and sigmas) before and after each stage, from `OUT/metrics.jsonl`."""
    losses: dict[str, dict[str, Any]] = {}
    for record in read_metrics(Path(out) / "metrics.jsonl"):
        if record.get("event") in ("stage_start", "stage_end"):
            when = "before" if record["event"] == "stage_start" else "after"
            losses.setdefault(record["stage"], {"stage": record["stage"]})[when] = record["fixed_loss"]
    return list(losses.values())
