"""Cutting a stream of frames into spans of one shot each, in the same pass that everything else reads."""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]


class Frame(NamedTuple):
    """A frame of a source: its number, the picture [H, W, 3] RGB, and the same at analysis size."""

    number: int
    image: Image
    small: Image


@dataclass(frozen=True)
class ShotsConfig:
    """Where a shot ends (PySceneDetect's adaptive content detector) and how long a span may be.

    `min_content`: least mean HSV change at a cut, 0 to 255. `ratio`: that change over the mean of its neighbours,
    which tells a cut from a fast camera. `min_shot`: frames between two cuts. `max_frames`: longest span.
    """

    min_content: float = 15.0
    ratio: float = 3.0
    min_shot: int = 5
    max_frames: int = 300


def spans(frames: Iterable[Frame], config: ShotsConfig) -> Iterator[Iterator[Frame]]:
    """Consecutive spans of `frames`, each within one shot and at most `max_frames` long.

    Each span has to be read before the next is asked for. Only the few frames the detector looks ahead are held.
    """
    for _, span in groupby(_numbered(frames, config), key=itemgetter(0)):
        yield (frame for _, frame in span)


def _numbered(frames: Iterable[Frame], config: ShotsConfig) -> Iterator[tuple[int, Frame]]:
    """Frames with the number of their span."""
    number, length = 0, 0
    for is_cut, frame in _with_cuts(frames, config):
        if length and (is_cut or length == config.max_frames):
            number, length = number + 1, 0
        length += 1
        yield number, frame


def _with_cuts(frames: Iterable[Frame], config: ShotsConfig) -> Iterator[tuple[bool, Frame]]:
    """Frames, each with whether a shot begins there."""
    from scenedetect.detectors import AdaptiveDetector

    detector = AdaptiveDetector(
        adaptive_threshold=config.ratio, min_scene_len=config.min_shot, min_content_val=config.min_content
    )
    cuts: set[int] = set()
    waiting: deque[Frame] = deque()
    for frame in frames:
        bgr = np.ascontiguousarray(frame.small[..., ::-1])
        cuts.update(detector.process_frame(frame.number, bgr))
        waiting.append(frame)
        if len(waiting) > detector.event_buffer_length:  # cuts are reported this many frames late
            first = waiting.popleft()
            yield first.number in cuts, first
    yield from ((frame.number in cuts, frame) for frame in waiting)
