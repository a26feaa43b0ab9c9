"""Cuts by TransNetV2 over a stream: windows of 100 frames every 50, of which the middle 50 are answered."""

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
    """Frames, each with whether a shot begins there: right after the last frame of a transition, which belongs to none
    and is counted to the shot before (`margin` frames are left out there)."""

    def __init__(self, weights: str, threshold: float) -> None:
        self._model = load_model(weights)
        self._threshold = threshold

    def __call__(self, frames: Iterable[Frame]) -> Iterator[tuple[bool, Frame]]:
        waiting: deque[Frame] = deque()

        def watched() -> Iterator[Tiny]:
            for frame in frames:
                waiting.append(frame)
                tiny = cv2.resize(frame.small, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)
                yield np.ascontiguousarray(tiny[..., ::-1], np.uint8)

        in_transition = False
        for probability in self.probabilities(watched()):
            before, in_transition = in_transition, probability > self._threshold
            yield before and not in_transition, waiting.popleft()

    def probabilities(self, pictures: Iterable[Tiny]) -> Iterator[float]:
        """That a frame is one of a transition, for each of `pictures` [27, 48, 3] RGB; 75 are held."""
        held: list[Tiny] = []
        for picture in pictures:
            held = held or [picture] * CONTEXT  # the first frame stands for those before it
            held.append(picture)
            if len(held) == 2 * CONTEXT + STEP:
                yield from self._answer(held)
                held = held[STEP:]
        left = len(held) - CONTEXT  # all of them asked for, those after the middle as well
        while left > 0:
            window = held[: 2 * CONTEXT + STEP]
            window = window + [held[-1]] * (2 * CONTEXT + STEP - len(window))
            yield from self._answer(window)[:left]
            held, left = held[STEP:], left - STEP

    def _answer(self, window: list[Tiny]) -> list[float]:
        with torch.inference_mode():
            answer = self._model(torch.from_numpy(np.stack(window))[None])[0]
        return [float(value) for value in answer[CONTEXT : CONTEXT + STEP]]
