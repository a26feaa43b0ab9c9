"""Associate detections to people over the frames of a shot, and interpolate their boxes."""

from bisect import bisect_left, bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d
from scipy.optimize import linear_sum_assignment

from opendimo.pipelines.people.boxes import COUNTED, Box, Tracks, iou, overlap
from opendimo.pipelines.people.camera_motion import Similarity
from opendimo.pipelines.people.detector import SAME_PERSON, Person
from opendimo.pipelines.people.visibility import Visibility

MIN_IOU = 0.3  # minimum IoU of a person's boxes in two successive sampled frames
MIN_SEEN = 2  # minimum number of detections of a person; a single one counts as a false positive


@dataclass(eq=False)
class Trace:
    """The detections of one person."""

    person: Person  # at the last detection, moved with the camera since
    frames: list[int]
    boxes: list[Box]
    seen: list[Visibility | None]

    def extend(self, frame: int, person: Person) -> None:
        self.person = person
        self.frames.append(frame)
        self.boxes.append(person.box)
        self.seen.append(person.visibility)


@dataclass(frozen=True, eq=False)
class Followed:
    """People over a span of frames, one row per person: `tracks` [P, T, 4], NaN where not visible, and the visibility
    of each person at each detection within the span (`seen`)."""

    tracks: Tracks
    seen: list[list[Visibility]]


class Traces:
    """Associates detections to people over a shot. `patience` is in frames; `max_people`: people tracked at a time."""

    def __init__(self, patience: int, max_people: int) -> None:
        self.patience, self.max_people = patience, max_people
        self._traces: list[Trace] = []
        self._looks: list[int] = []

    def update(
        self,
        frame: int,
        people: list[Person],
        again: Callable[[Person], Person | None],
        camera: Callable[[], Similarity],
    ) -> list[Box]:
        """Add the `people` detected at `frame`, and return all boxes of the frame.

        `again` tries once more to detect a tracked person who is missing from `people`. `camera` returns the motion of
        the image since the last update; it is asked only if somebody is not found where they were.
        """
        self._looks.append(frame)
        unmatched = self.tracked(frame)
        unassigned = list(people)
        _assign(frame, unmatched, unassigned)
        if unmatched:
            motion = camera()
            for trace in unmatched:
                trace.person = trace.person.moved(motion)
            _assign(frame, unmatched, unassigned)
        boxes = [t.person.box for t in self._traces if t.frames[-1] == frame]
        for trace in sorted(unmatched, key=lambda t: -t.frames[-1])[: max(0, self.max_people - len(boxes))]:
            redetected = again(trace.person)
            if redetected and iou(redetected.box, trace.person.box) > MIN_IOU and _is_other(redetected.box, boxes):
                trace.extend(frame, redetected)
                boxes.append(redetected.box)
        for person in unassigned:
            if _is_other(person.box, boxes):
                self._traces.append(Trace(person, [frame], [person.box], [person.visibility]))
                boxes.append(person.box)
        return boxes

    def tracked(self, frame: int) -> list[Trace]:
        """Return the people who may be visible at `frame`: those detected within the patience before it."""
        return [t for t in self._traces if frame - t.frames[-1] <= self.patience]

    def same(self, frame: int, people: list[Person]) -> list[tuple[Trace, Person]] | None:
        """Return each tracked person with their detection at `frame`; None unless `people` are just those tracked."""
        tracked = self.tracked(frame)
        pairs = _matches(tracked, people, iou, MIN_IOU)
        return pairs if len(pairs) == len(tracked) == len(people) else None

    def steady(self) -> bool:
        """Return whether the last look detected everybody who is tracked, and nobody for the first time."""
        last = self._looks[-1]
        return all(t.frames[-1] == last and len(t.frames) >= MIN_SEEN for t in self.tracked(last))

    def several(self) -> bool:
        """Return whether at least two people of comparable size are tracked and were detected at the last look."""
        seen = [t for t in self._traces if t.frames[-1] == self._looks[-1] and len(t.frames) >= MIN_SEEN]
        sizes = sorted(float(np.sqrt((t.boxes[-1][2:] - t.boxes[-1][:2]).prod())) for t in seen)
        return len(sizes) > 1 and sizes[-2] >= COUNTED * sizes[-1]

    def at(self, frame: int) -> list[Box]:
        """Return the boxes of a frame that was not looked at, interpolated between those around it."""
        boxes = []
        for trace in self._traces:
            k = bisect_left(trace.frames, frame)
            if 0 < k < len(trace.frames) and trace.frames[k] - trace.frames[k - 1] <= self.patience:
                (start, end), (before, after) = trace.frames[k - 1 : k + 1], trace.boxes[k - 1 : k + 1]
                boxes.append(before + (after - before) * share(start, frame, end))
        return boxes

    def over(self, span: range, sigma: float) -> Followed:
        """Return all people in the frames of `span`; boxes are smoothed with standard deviation `sigma` (frames)."""
        looks = bisect_left(self._looks, span.stop) - bisect_left(self._looks, span.start)
        kept = [t for t in self._traces if len(_within(t, span)) >= max(1, min(MIN_SEEN, looks))]
        tracks = np.full((len(kept), len(span), 4), np.nan, np.float32)
        for track, trace in zip(tracks, kept, strict=True):
            self._fill(track, trace, span, sigma)
        return Followed(tracks, [_measured(trace, span) for trace in kept])

    def forget(self, before: int) -> None:
        """Drop state that no span starting at frame `before` or later needs."""
        self._traces = [t for t in self._traces if t.frames[-1] + self.patience >= before]
        del self._looks[: max(0, bisect_left(self._looks, before - self.patience) - 1)]
        for trace in self._traces:
            old = max(0, bisect_left(trace.frames, before - self.patience) - 1)
            del trace.frames[:old], trace.boxes[:old], trace.seen[:old]

    def _fill(self, track: NDArray[np.float32], trace: Trace, span: range, sigma: float) -> None:
        """Interpolate boxes between detections into `track` [T, 4], also from detections just before the span."""
        low = max(0, bisect_left(trace.frames, span.start - self.patience))
        high = bisect_left(trace.frames, span.stop)
        frames = trace.frames[low:high]
        for first, last in _stretches(frames, self.patience) if frames else []:
            start, stop = frames[first], self._until(frames[last], span.stop)
            at = np.arange(start, stop)
            boxes = np.array(trace.boxes[low + first : low + last + 1])  # [looks, 4]
            filled = np.stack([np.interp(at, frames[first : last + 1], side) for side in boxes.T], axis=1)
            smooth = gaussian_filter1d(filled, sigma, axis=0, mode="nearest") if sigma > 0 else filled
            inside = at >= span.start
            track[at[inside] - span.start] = smooth[inside]

    def _until(self, frame: int, stop: int) -> int:
        """Return the end of a track that was last detected at `frame`: the next sampled frame, or `stop`."""
        following = bisect_right(self._looks, frame)
        return min(stop, self._looks[following]) if following < len(self._looks) else stop


def share(start: int, frame: int, end: int) -> float:
    """Return how far `frame` is on the way from `start` to `end`, 0 to 1."""
    return (frame - start) / (end - start)


def _within(trace: Trace, span: range) -> range:
    """Return the indices of the detections of `trace` that lie in `span`."""
    return range(bisect_left(trace.frames, span.start), bisect_left(trace.frames, span.stop))


def _measured(trace: Trace, span: range) -> list[Visibility]:
    seen = (trace.seen[k] for k in _within(trace, span))
    return [visibility for visibility in seen if visibility is not None]


def _assign(frame: int, traces: list[Trace], people: list[Person]) -> None:
    """Extend traces with the people that match, and remove both from the lists."""
    # the second measure also matches a body that is only partly visible in one of the two frames
    for measure, least in ((iou, MIN_IOU), (overlap, SAME_PERSON)):
        for trace, person in _matches(traces, people, measure, least):
            trace.extend(frame, person)
            traces.remove(trace)
            people.remove(person)


def _matches(
    traces: list[Trace], people: list[Person], measure: Callable[[Box, Box], float], least: float
) -> list[tuple[Trace, Person]]:
    """Return the best assignment of people to traces (Hungarian algorithm), among pairs with at least `least`."""
    if not traces or not people:
        return []
    gain = np.array([[measure(t.person.box, p.box) for p in people] for t in traces])
    gain[gain < least] = 0
    rows, columns = linear_sum_assignment(gain, maximize=True)
    return [(traces[r], people[c]) for r, c in zip(rows, columns, strict=True) if gain[r, c] > 0]


def _is_other(box: Box, boxes: list[Box]) -> bool:
    return all(overlap(box, other) <= SAME_PERSON for other in boxes)


def _stretches(frames: list[int], patience: int) -> list[tuple[int, int]]:
    """Split `frames` at gaps above `patience`; return pairs of first and last index."""
    cuts = [i for i, (a, b) in enumerate(pairwise(frames), 1) if b - a > patience]
    return list(zip([0, *cuts], [c - 1 for c in [*cuts, len(frames)]], strict=True))
