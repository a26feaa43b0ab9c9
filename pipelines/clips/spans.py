"""The spans of a source that are cut: all of it, or those that its list names."""

import math
import sys
from collections import deque
from collections.abc import Sequence
from fractions import Fraction

from opendimo.storage_schemas.rows import Row

HALF_MILLISECOND = Fraction(1, 2000)
"""Lists round times to milliseconds, so the time of a frame may be this much earlier than the stated one."""


class Spans:
    """Tells which spans contain a frame, for frames in increasing order.

    `stated`: column `spans` of the source, null or empty if all of the video is one span. `fps`: frames per second.
    """

    def __init__(self, stated: Sequence[Row] | None, fps: Fraction) -> None:
        self.stated = stated or []
        spans = [frames_between(span["start"], span["end"], fps) for span in self.stated] or [range(sys.maxsize)]
        self.stop = max(span.stop for span in spans)
        self._spans = spans
        self._waiting = deque(sorted(range(len(spans)), key=lambda index: spans[index].start))
        self._open: list[int] = []

    def at(self, frame: int) -> list[int]:
        """Return the indices of the spans that contain a frame."""
        while self._waiting and self._spans[self._waiting[0]].start <= frame:
            self._open.append(self._waiting.popleft())
        self._open = [index for index in self._open if frame < self._spans[index].stop]
        return self._open

    def end(self, index: int) -> int:
        """Return one past the last frame of a span."""
        return self._spans[index].stop


def frames_between(start: float, end: float, fps: Fraction) -> range:
    """Return the frames shown in [start, end) seconds: frame k is shown at k / fps."""
    first, stop = (math.ceil((Fraction(time) - HALF_MILLISECOND) * fps) for time in (start, end))
    return range(max(0, first), max(0, stop))
