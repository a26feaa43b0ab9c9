"""Where shots begin, in the same pass that everything else reads: by change of content, or by a learned detector."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import cv2
import numpy as np

from opendimo.pipelines.clips.frame import Frame

Cuts = Callable[[Iterable[Frame]], Iterator[tuple[bool, Frame]]]
"""Frames -> the same frames, each with whether a shot begins there; some are held on the way."""


@dataclass(frozen=True)
class ShotsConfig:
    """Where a shot ends: by PySceneDetect's adaptive content detector, or with `weights` by TransNetV2.

    `min_content`: least mean HSV change at a cut, 0 to 255. `ratio`: that change over the mean of its neighbours,
    which tells a cut from a fast camera. `min_shot`: frames between two cuts. `weights`: file of TransNetV2's published
    PyTorch weights (.pth, or the same tensors as .safetensors). `threshold`: its least probability of a transition.
    """

    min_content: float = 15.0
    ratio: float = 3.0
    min_shot: int = 5
    weights: str | None = None
    threshold: float = 0.5


def load_detector(config: ShotsConfig) -> Cuts:
    """The detector that `config` asks for. Raises `ValueError` where its weights are none of TransNetV2."""
    if config.weights is None:
        return lambda frames: by_content(frames, config)
    from opendimo.pipelines.clips.transnet import TransNetCuts

    return TransNetCuts(config.weights, config.threshold)


def by_content(frames: Iterable[Frame], config: ShotsConfig) -> Iterator[tuple[bool, Frame]]:
    """Cuts by the adaptive content detector, which looks a few frames ahead."""
    from scenedetect.detectors import AdaptiveDetector

    detector = AdaptiveDetector(
        adaptive_threshold=config.ratio, min_scene_len=config.min_shot, min_content_val=config.min_content
    )
    cuts: set[int] = set()
    waiting: deque[Frame] = deque()
    for frame in frames:
        # a change of content shows at half of the analysis size as well, in a quarter of the time
        half = cv2.resize(frame.small, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
        cuts.update(detector.process_frame(frame.number, np.asarray(half, np.uint8)))
        waiting.append(frame)
        if len(waiting) > detector.event_buffer_length:  # cuts are reported this many frames late
            first = waiting.popleft()
            yield first.number in cuts, first
            cuts.discard(first.number)
    yield from ((frame.number in cuts, frame) for frame in waiting)
