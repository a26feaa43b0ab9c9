"""Detect where shots begin while frames are decoded: by change of content or with a learned detector."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import cv2
import numpy as np

from opendimo.pipelines.clips.frame import Frame

Cuts = Callable[[Iterable[Frame]], Iterator[tuple[bool, Frame]]]
"""Takes frames and yields them, each with whether a shot begins there; some are buffered."""


@dataclass(frozen=True)
class ShotsConfig:
    """How cuts are detected: with PySceneDetect's adaptive content detector, or with TransNetV2 if `weights` is set.

    `min_content`: least mean HSV change at a cut, 0 to 255. `ratio`: least change relative to the mean of neighbouring
    frames, which tells a cut from a fast camera. `min_shot`: least number of frames between two cuts. `weights`: file
    of TransNetV2's published PyTorch weights (.pth, or the same tensors as .safetensors). `threshold`: least
    probability of a transition, for TransNetV2.
    """

    min_content: float = 15.0
    ratio: float = 3.0
    min_shot: int = 5
    weights: str | None = None
    threshold: float = 0.5


def load_detector(config: ShotsConfig) -> Cuts:
    """Load the detector selected by `config`. Raises `ValueError` if `weights` does not hold TransNetV2 weights."""
    if config.weights is None:
        return lambda frames: by_content(frames, config)
    from opendimo.pipelines.clips.transnet import TransNetCuts

    return TransNetCuts(config.weights, config.threshold)


def by_content(frames: Iterable[Frame], config: ShotsConfig) -> Iterator[tuple[bool, Frame]]:
    """Detect cuts with the adaptive content detector, which looks a few frames ahead."""
    from scenedetect.detectors import AdaptiveDetector

    detector = AdaptiveDetector(
        adaptive_threshold=config.ratio, min_scene_len=config.min_shot, min_content_val=config.min_content
    )
    cuts: set[int] = set()
    buffered: deque[Frame] = deque()
    for frame in frames:
        # half of the analysis size is enough to detect a change of content, and takes a quarter of the time
        half = cv2.resize(frame.small, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
        cuts.update(detector.process_frame(frame.number, np.asarray(half, np.uint8)))
        buffered.append(frame)
        if len(buffered) > detector.event_buffer_length:  # cuts are reported this many frames late
            first = buffered.popleft()
            yield first.number in cuts, first
            cuts.discard(first.number)
    yield from ((frame.number in cuts, frame) for frame in buffered)
