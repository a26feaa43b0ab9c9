"""Which frames become clips: shots without the frames about their cuts, and windows of training length in them."""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class WindowsConfig:
    """Lengths in frames. `margin`: left out on each side of a cut, where a blend or a late detection may be;
    `max_frames`: longest clip; `stride`: from the start of one clip of a shot to the next (0: `max_frames`, so that
    clips neither overlap nor leave gaps); `min_rest`: shortest clip at the end of a shot that has others before."""

    margin: int = 2
    max_frames: int = 300
    stride: int = 0
    min_rest: int = 17

    def __post_init__(self) -> None:
        if self.max_frames < 1 or min(self.margin, self.stride, self.min_rest) < 0:
            raise ValueError("windows: max_frames has to be 1 or more, margin, stride and min_rest 0 or more")

    @property
    def step(self) -> int:
        """Frames from the start of one clip to the next."""
        return self.stride or self.max_frames


def shots(frames: Iterable[tuple[bool, T]], margin: int) -> Iterator[Iterator[T]]:
    """(whether a shot begins here, frame) -> the frames of each shot, without `margin` on both sides of its cuts.

    A video begins and ends without a cut. Of a shot that is too short for its margins nothing comes. Each shot has to
    be read before the next is asked for; `margin` frames are held.
    """
    for _, shot in groupby(_without_margins(frames, margin), key=itemgetter(0)):
        yield (frame for _, frame in shot)


def _without_margins(frames: Iterable[tuple[bool, T]], margin: int) -> Iterator[tuple[int, T]]:
    """The frames that are left, with the number of their shot."""
    number, skip = 0, 0
    waiting: deque[T] = deque()  # the next cut may be so close that they are left out
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
