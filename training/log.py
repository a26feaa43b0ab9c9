"""The metrics of a run: metrics.jsonl, one JSON object per line for every step and a few events, and TensorBoard.

After a crash the files may be ahead of the newest checkpoint. Resuming truncates metrics.jsonl to its length when that
checkpoint was saved, and hides later steps from TensorBoard, so that every step is there exactly once.
"""

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

BOARD = "tensorboard"


class MetricsLog:
    """Append records to OUT/metrics.jsonl, which is first truncated to `keep_bytes`, and to TensorBoard's files.

    `step`: number of the last step that is kept.
    """

    def __init__(self, out: Path, keep_bytes: int = 0, step: int = 0) -> None:
        from torch.utils.tensorboard import SummaryWriter

        path = out / "metrics.jsonl"
        path.touch()
        os.truncate(path, keep_bytes)
        self._stream = path.open("a", encoding="utf-8")
        self._board = SummaryWriter(str(out / BOARD), purge_step=step + 1)

    def write(self, record: dict[str, Any]) -> None:
        """Append one record and flush it."""
        self._stream.write(json.dumps(record) + "\n")
        self._stream.flush()
        kind = record.get("event", "step")
        if kind != "start":
            for name, value in scalars(record):
                self._board.add_scalar(f"{kind}/{name}", value, record["step"])

    def flush(self) -> int:
        """Write what is buffered to disk, before a checkpoint names it; return the length of metrics.jsonl."""
        self._board.flush()
        return self._stream.tell()

    def close(self) -> None:
        """Close the files."""
        self._stream.close()
        self._board.close()


def scalars(record: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    """Yield all numbers of a record, also of nested ones, as (name, value); names of nested ones are joined by dots."""
    for name, value in record.items():
        if isinstance(value, Mapping):
            yield from scalars(value, f"{prefix}{name}.")
        elif isinstance(value, int | float) and name != "step":
            yield prefix + name, float(value)


def gpu_memory() -> dict[str, float]:
    """Return the peak of this process's GPU memory in GiB; empty without a GPU."""
    import torch

    return {"gpu_gib": round(torch.cuda.max_memory_allocated() / 2**30, 2)} if torch.cuda.is_available() else {}


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Return all records; skip a last line that a crash left incomplete."""
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]
