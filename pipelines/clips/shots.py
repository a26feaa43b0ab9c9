"""Detect where shots begin while frames are decoded: by change of content or with a learned detector."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import cv2
import numpy as np

from opendimo.pipelines.clips.frame import Frame
from opendimo.pipelines.clips.same_view import View, disturbed

Cuts = Callable[[Iterable[Frame]], Iterator[tuple[bool, Frame]]]
"""Takes frames and yields them, each with whether a shot begins there; some are buffered."""
DISTURBED = 12
"""Largest number of frames across which views are compared."""


@dataclass(frozen=True)
class ShotsConfig:
    """How cuts are detected: with PySceneDetect's adaptive content detector, or with TransNetV2 if `weights` is set.

    `min_content`: least mean HSV change at a cut, 0 to 255. `ratio`: least change relative to the mean of neighbouring
    frames, which tells a cut from a fast camera. `min_shot`: least number of frames between two cuts. A change that
    passes them is not a cut if it is a flash, a flare or the like (`same_view.py`). `weights`: file of TransNetV2's
    published PyTorch weights (.pth, or the same tensors as .safetensors). `threshold`: least probability of a
    transition, for TransNetV2.
    """

    min_content: float = 15.0
    ratio: float = 2.5
    min_shot: int = 1
    weights: str | None = None
    threshold: float = 0.5


def load_detector(config: ShotsConfig) -> Cuts:
    """Load the detector selected by `config`. Raises `ValueError` if `weights` does not hold TransNetV2 weights."""
    if config.weights is None:
        return lambda frames: by_content(frames, config)
    from opendimo.pipelines.clips.transnet import TransNetCuts

    return TransNetCuts(config.weights, config.threshold)


def by_content(frames: Iterable[Frame], config: ShotsConfig) -> Iterator[tuple[bool, Frame]]:
    """Detect cuts: large changes of content that are no disturbances of one take. `DISTURBED` frames are buffered."""
    before: deque[View] = deque(maxlen=2 * DISTURBED)  # the last frame first
    ahead: deque[tuple[bool, Frame, View]] = deque()
    earliest = config.min_shot  # number of the next frame that may begin a shot

    def decide() -> tuple[bool, Frame]:
        nonlocal earliest
        (changes, frame, view), begins = ahead.popleft(), False
        if changes and frame.number >= earliest:
            length = disturbed(before, (view, *(later for _, _, later in ahead)), config.min_content)
            begins = length is None
            earliest = frame.number + (config.min_shot if length is None else length + 1)
        before.appendleft(view)
        return begins, frame

    for changes, frame in _changes(frames, config):
        ahead.append((changes, frame, View(frame.small)))
        if len(ahead) > DISTURBED:
            yield decide()
    while ahead:
        yield decide()


def _changes(frames: Iterable[Frame], config: ShotsConfig) -> Iterator[tuple[bool, Frame]]:
    """Yield each frame with whether its content differs much more from the frame before than is usual around it."""
    from scenedetect.detectors import AdaptiveDetector

    detector = AdaptiveDetector(adaptive_threshold=config.ratio, min_scene_len=1, min_content_val=config.min_content)
    changed: set[int] = set()
    buffered: deque[Frame] = deque()
    for frame in frames:
        # half of the analysis size is enough to detect a change of content, and takes a quarter of the time
        half = cv2.resize(frame.small, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
        changed.update(detector.process_frame(frame.number, np.asarray(half, np.uint8)))
        buffered.append(frame)
        if len(buffered) > detector.event_buffer_length:  # changes are reported this many frames late
            first = buffered.popleft()
            yield first.number in changed, first
            changed.discard(first.number)
    yield from ((frame.number in changed, frame) for frame in buffered)
