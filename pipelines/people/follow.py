"""Following people over the frames of a clip: a few looks a second, associated as ByteTrack does (arXiv 2110.06864:
by overlap, then a second chance for whoever was not detected), and filled in between."""

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from scipy.ndimage import gaussian_filter1d
from scipy.optimize import linear_sum_assignment

from pipelines.people.boxes import Box, Tracks, iou, overlap
from pipelines.people.detector import SAME_PERSON, Detector, DetectorConfig, Image, Person

MIN_IOU = 0.3  # of a person with themselves, between two looks
MIN_SEEN = 2  # looks; what is seen once is no person


@dataclass(frozen=True)
class PeopleConfig:
    """How people are found and followed: `looks` at the whole frame and `searches` for small people per second,
    `patience`: seconds for which a person may go unseen, `smoothing`: standard deviation in seconds of the filter
    over the boxes."""

    detector: DetectorConfig = field(default_factory=DetectorConfig)
    looks: float = 6.0
    searches: float = 0.5
    patience: float = 1.0
    smoothing: float = 0.08


@dataclass(eq=False)
class _Trace:
    person: Person  # as seen last
    frames: list[int]
    boxes: list[Box]

    def extend(self, frame: int, person: Person) -> None:
        self.person = person
        self.frames.append(frame)
        self.boxes.append(person.box)


class Traces:
    """Who is who over the looks of a clip. `patience` is in frames, `max_people` those followed at a time."""

    def __init__(self, patience: int, max_people: int) -> None:
        self.patience, self.max_people = patience, max_people
        self._traces: list[_Trace] = []
        self._looks: list[int] = []

    def update(self, frame: int, people: list[Person], again: Callable[[Person], Person | None]) -> list[Box]:
        """Add what was seen at `frame`; `again` looks once more for a person who was not. Returns all boxes of the
        frame."""
        self._looks.append(frame)
        waiting = [t for t in self._traces if frame - t.frames[-1] <= self.patience]
        new = list(people)
        # the second measure catches a body that was seen in part before, or is seen in part now
        for measure, least in ((iou, MIN_IOU), (overlap, SAME_PERSON)):
            for trace, person in _matches(waiting, new, measure, least):
                trace.extend(frame, person)
                waiting.remove(trace)
                new.remove(person)
        boxes = [t.person.box for t in self._traces if t.frames[-1] == frame]
        for trace in sorted(waiting, key=lambda t: -t.frames[-1])[: max(0, self.max_people - len(boxes))]:
            found = again(trace.person)
            if found and iou(found.box, trace.person.box) > MIN_IOU and _is_other(found.box, boxes):
                trace.extend(frame, found)
                boxes.append(found.box)
        for person in new:
            if _is_other(person.box, boxes):
                self._traces.append(_Trace(person, [frame], [person.box]))
                boxes.append(person.box)
        return boxes

    def tracks(self, frames: int, sigma: float) -> Tracks:
        """Boxes [P, frames, 4] of everybody, NaN where unseen; smoothed with standard deviation `sigma` (frames)."""
        enough = min(MIN_SEEN, len(self._looks))
        kept = [t for t in self._traces if len(t.frames) >= enough]
        tracks = np.full((len(kept), frames, 4), np.nan, np.float32)
        for track, trace in zip(tracks, kept, strict=True):
            for first, last in _stretches(trace.frames, self.patience):
                start, stop = trace.frames[first], self._until(trace.frames[last], frames)
                at = np.arange(start, stop)
                seen = trace.frames[first : last + 1]
                boxes = np.array(trace.boxes[first : last + 1])  # [looks, 4]
                filled = np.stack([np.interp(at, seen, side) for side in boxes.T], axis=1)
                track[start:stop] = gaussian_filter1d(filled, sigma, axis=0, mode="nearest") if sigma > 0 else filled
        return tracks

    def _until(self, frame: int, frames: int) -> int:
        """A person seen at `frame` and not at the next look is taken to stay until then."""
        return min((look for look in self._looks if look > frame), default=frames)


class Follower:
    """People of one clip, seen through a detector. `fps` is the clip's frame rate."""

    def __init__(self, detector: Detector, config: PeopleConfig, fps: float) -> None:
        self._detector = detector
        self._sigma = config.smoothing * fps
        self._search_every = fps / config.searches
        self._next_search = 0.0
        self._traces = Traces(round(config.patience * fps), config.detector.max_people)

    def look(self, frame: int, image: Image) -> list[Box]:
        """Look at `image` [H, W, 3] RGB, frame number `frame` of the clip; returns the boxes of the people in it."""
        if frame >= self._next_search:
            self._next_search = frame + self._search_every
            people = self._detector.search(image)
        else:
            people = self._detector.glance(image)
        return self._traces.update(frame, people, lambda person: self._detector.again(image, person))

    def tracks(self, frames: int) -> Tracks:
        """Boxes [P, frames, 4] in pixels of the images looked at, NaN where a person is not seen."""
        return self._traces.tracks(frames, self._sigma)


def _matches(
    traces: list[_Trace], people: list[Person], measure: Callable[[Box, Box], float], least: float
) -> list[tuple[_Trace, Person]]:
    """The best assignment of people to traces, of those pairs that reach `least`."""
    if not traces or not people:
        return []
    gain = np.array([[measure(t.person.box, p.box) for p in people] for t in traces])
    gain[gain < least] = 0
    rows, columns = linear_sum_assignment(gain, maximize=True)
    return [(traces[r], people[c]) for r, c in zip(rows, columns, strict=True) if gain[r, c] > 0]


def _is_other(box: Box, boxes: list[Box]) -> bool:
    return all(overlap(box, other) <= SAME_PERSON for other in boxes)


def _stretches(frames: list[int], patience: int) -> list[tuple[int, int]]:
    """Runs of `frames` without a gap above `patience`: pairs of first and last position."""
    cuts = [i for i, (a, b) in enumerate(pairwise(frames), 1) if b - a > patience]
    return list(zip([0, *cuts], [c - 1 for c in [*cuts, len(frames)]], strict=True))
