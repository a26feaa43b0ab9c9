"""metrics.jsonl: one JSON object per line, for every step and a few events, in the order of training.

After a crash the file may be ahead of the newest checkpoint. Resuming truncates it to its length when that checkpoint
was saved, so that every step is in it exactly once.
"""

import json
import os
from pathlib import Path
from typing import Any


class MetricsLog:
    """Append records to a file, which is first truncated to `keep_bytes`."""

    def __init__(self, path: Path, keep_bytes: int) -> None:
        path.touch()
        os.truncate(path, keep_bytes)
        self._stream = path.open("a", encoding="utf-8")

    def write(self, record: dict[str, Any]) -> None:
        """Append one record and flush it."""
        self._stream.write(json.dumps(record) + "\n")
        self._stream.flush()

    @property
    def bytes(self) -> int:
        """Return the length of the file."""
        return self._stream.tell()

    def close(self) -> None:
        """Close the file."""
        self._stream.close()


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Return all records; skip a last line that a crash left incomplete."""
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]
