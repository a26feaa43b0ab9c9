"""Detect cuts with TransNetV2 in a stream of frames: windows of 100 frames, every 50; the middle 50 are used."""

from collections import deque
from collections.abc import Iterable, Iterator

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from opendimo.pipelines.clips.frame import Frame
from opendimo.pipelines.clips.transnet_model import HEIGHT, WIDTH, load_model

STEP, CONTEXT = 50, 25
Tiny = NDArray[np.uint8]  # [27, 48, 3]


class TransNetCuts:
    """Detect shots with TransNetV2: yield each frame with whether a shot begins there.

    A shot begins right after the last frame of a transition. The transition belongs to no shot; its frames are counted
    as part of the shot before, whose last `margin` frames are dropped later.
    """

    def __init__(self, weights: str, threshold: float) -> None:
        self._model = load_model(weights)
        self._threshold = threshold

    def __call__(self, frames: Iterable[Frame]) -> Iterator[tuple[bool, Frame]]:
        buffered: deque[Frame] = deque()

        def thumbnails() -> Iterator[Tiny]:
            for frame in frames:
                buffered.append(frame)
                tiny = cv2.resize(frame.small, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)
                yield np.ascontiguousarray(tiny[..., ::-1], np.uint8)

        in_transition = False
        for probability in self.probabilities(thumbnails()):
            was_in_transition, in_transition = in_transition, probability > self._threshold
            yield was_in_transition and not in_transition, buffered.popleft()

    def probabilities(self, pictures: Iterable[Tiny]) -> Iterator[float]:
        """Yield, for each of `pictures` [27, 48, 3] RGB, the probability that it is part of a transition.

        75 pictures are buffered.
        """
        buffered: list[Tiny] = []
        for picture in pictures:
            buffered = buffered or [picture] * CONTEXT  # pad before the start with the first frame
            buffered.append(picture)
            if len(buffered) == 2 * CONTEXT + STEP:
                yield from self._predict(buffered)
                buffered = buffered[STEP:]
        pending = len(buffered) - CONTEXT  # at the end, those after the middle are needed too
        while pending > 0:
            window = buffered[: 2 * CONTEXT + STEP]
            window = window + [buffered[-1]] * (2 * CONTEXT + STEP - len(window))
            yield from self._predict(window)[:pending]
            buffered, pending = buffered[STEP:], pending - STEP

    def _predict(self, window: list[Tiny]) -> list[float]:
        with torch.inference_mode():
            prediction = self._model(torch.from_numpy(np.stack(window))[None])[0]
        return [float(value) for value in prediction[CONTEXT : CONTEXT + STEP]]
