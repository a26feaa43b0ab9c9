"""Buffer log records in a worker until its driver fetches them."""

import logging
from collections import deque


class LogBuffer(logging.Handler):
    """Log handler that keeps the newest 1000 lines until `take` returns them."""

    def __init__(self) -> None:
        super().__init__()
        self._lines: deque[tuple[int, str]] = deque(maxlen=1000)

    def emit(self, record: logging.LogRecord) -> None:
        """Add a record as (level, text)."""
        self._lines.append((record.levelno, self.format(record)))

    def take(self) -> list[tuple[int, str]]:
        """Return the lines (level, text) since the last call; other threads may log meanwhile."""
        return [self._lines.popleft() for _ in range(len(self._lines))]
