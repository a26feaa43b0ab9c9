"""Select the frames of clips: drop the frames next to cuts, and split each shot into windows of training length."""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class WindowsConfig:
    """How a shot is split into clips; all values are in frames.

    `margin`: dropped on each side of a cut, because of blends and late detections. `max_frames`: longest clip.
    `stride`: from the start of one clip of a shot to the next; 0 means `max_frames`, without overlaps or gaps.
    `min_rest`: shortest last clip of a shot that has several.
    """

    margin: int = 2
    max_frames: int = 300
    stride: int = 0
    min_rest: int = 17

    def __post_init__(self) -> None:
        if self.max_frames < 1 or min(self.margin, self.stride, self.min_rest) < 0:
            raise ValueError("windows: max_frames must be 1 or more; margin, stride and min_rest must be 0 or more")

    @property
    def step(self) -> int:
        """Frames from the start of one clip to the start of the next."""
        return self.stride or self.max_frames


def shots(frames: Iterable[tuple[bool, T]], margin: int) -> Iterator[Iterator[T]]:
    """Yield the frames of each shot from pairs (whether a shot begins here, frame), less `margin` frames at each cut.

    The first and the last frame of the video are no cuts. A shot shorter than its margins is dropped. Each shot must be
    read to its end before the next one; `margin` frames are buffered.
    """
    for _, shot in groupby(_without_margins(frames, margin), key=itemgetter(0)):
        yield (frame for _, frame in shot)


def _without_margins(frames: Iterable[tuple[bool, T]], margin: int) -> Iterator[tuple[int, T]]:
    """Yield the frames at least `margin` frames away from every cut, each with the number of its shot, from 0."""
    number, skip = 0, 0
    waiting: deque[T] = deque()  # held back until no cut within `margin` frames can drop them
    for count, (begins, frame) in enumerate(frames):
        if begins and count:
            number, skip = number + 1, margin
            waiting.clear()
        if skip:
            skip -= 1
            continue
        waiting.append(frame)
        if len(waiting) > margin:
            yield number, waiting.popleft()
    yield from ((number, frame) for frame in waiting)
