"""metrics.jsonl: one JSON object a line, one line a step and a few events, in the order of training.

After a crash the file may be ahead of the newest checkpoint; resuming cuts it back to where that checkpoint was made,
so that every step is there once.
"""

import json
import os
from pathlib import Path
from typing import Any


class MetricsLog:
    """Appends records to a file; `keep_bytes` cuts it to that length first."""

    def __init__(self, path: Path, keep_bytes: int) -> None:
        path.touch()
        os.truncate(path, keep_bytes)
        self._stream = path.open("a", encoding="utf-8")

    def write(self, record: dict[str, Any]) -> None:
        """Append one record, at once visible to readers."""
        self._stream.write(json.dumps(record) + "\n")
        self._stream.flush()

    @property
    def bytes(self) -> int:
        """Length of the file."""
        return self._stream.tell()

    def close(self) -> None:
        """Close the file."""
        self._stream.close()


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """All records; a line that was being written when the process died is left out."""
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]
