"""Detect and track people: boxes per person over the frames of a clip."""

from collections.abc import Iterable
from functools import partial

import numpy as np
from numpy.typing import NDArray

from opendimo.pipelines.people.boxes import main_person
from opendimo.pipelines.people.detector import Detector
from opendimo.pipelines.people.follow import Follower, PeopleConfig


def track_person(
    frames: Iterable[NDArray[np.uint8]], fps: float, config: PeopleConfig | None = None
) -> NDArray[np.float32] | None:
    """Return the box of the main person in each of `frames` [H, W, 3] RGB: [T, 4] pixels, NaN where not visible.

    None if no person was detected.
    """
    config = config or PeopleConfig()
    follower = Follower(Detector(config.detector), config, fps)
    every = max(1, round(fps / config.looks))
    count = 0
    for count, image in enumerate(frames, 1):
        if (count - 1) % every == 0:
            follower.look(count - 1, partial(np.asarray, image))
    tracks = follower.over(range(count)).tracks
    main = main_person(tracks)
    return None if main is None else tracks[main]
