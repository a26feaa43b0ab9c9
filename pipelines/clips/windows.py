"""Select the frames of clips: drop the frames next to cuts, and split each shot into windows of training length."""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T")


@dataclass(frozen=True)
class WindowsConfig:
    """How a shot is split into clips; values are in frames, except `max_second_share`.

    `margin`: dropped on each side of a cut, because of blends and late detections. `max_frames`: longest clip.
    `stride`: from the start of one clip of a shot to the next; 0 means `max_frames`, without overlaps or gaps.
    `min_rest`: shortest last clip of a shot that has several.

    `max_second_share`: an internet clip in which a second person of comparable size is in view in more than this share
    of the frames is split where they come and leave, if that gives spans of one person of at least `min_rest` frames;
    1: never. It is the policy's limit of the same name: clips that pass it are not split. Views of a capture and
    renders are not, because their frames belong together.
    """

    margin: int = 2
    max_frames: int = 300
    stride: int = 0
    min_rest: int = 17
    max_second_share: float = 0.15

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


def stretches(several: NDArray[np.bool_], most: float, least: int, margin: int) -> list[range]:
    """Return the spans of a window to cut, in its frames; one span of all frames if it is not split.

    `several` [T]: whether a second person is in view. A window is split if that holds for more than `most` of its
    frames, and one person is alone for at least `least` frames in a row, `margin` frames away from the second one. What
    lies between such spans is a span as well, unless it is shorter than `least`.
    """
    whole = range(len(several))
    if not len(several) or several.mean() <= most:
        return [whole]
    near = np.convolve(several, np.ones(2 * margin + 1), "same") > 0
    alone = [run for run in _runs(~near) if len(run) >= least]
    if not alone:
        return [whole]
    ends = [0, *(end for run in alone for end in (run.start, run.stop)), len(several)]
    between = [range(start, stop) for start, stop in zip(ends[::2], ends[1::2], strict=True)]
    return sorted(alone + [run for run in between if len(run) >= least], key=lambda run: run.start)


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


def _runs(values: NDArray[np.bool_]) -> list[range]:
    """Return the ranges of indices in which `values` [T] are true."""
    changes = np.flatnonzero(np.diff(np.concatenate([[False], values, [False]]).astype(np.int8)))
    return [range(int(start), int(stop)) for start, stop in changes.reshape(-1, 2)]
