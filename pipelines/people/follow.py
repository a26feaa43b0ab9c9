"""Track people over the frames of a clip.

Detects people a few times per second, associates detections as ByteTrack does (arXiv 2110.06864: by overlap, then a
second attempt for people who were not detected), those who are not found where they were after moving them with the
camera (BoT-SORT, arXiv 2206.14651), and interpolates boxes between the sampled frames ("looks").

Detections take most of the time of cutting, so looks wait while the same people stay, and the whole frame is not
searched again while its background stays as it was: see `Follower`.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from opendimo.pipelines.people.boxes import Box, iou
from opendimo.pipelines.people.camera_motion import STILL, Similarity, camera_motion
from opendimo.pipelines.people.detector import Detector, DetectorConfig, Image, Person
from opendimo.pipelines.people.onnx_boxes import OnnxConfig
from opendimo.pipelines.people.scene import Scene
from opendimo.pipelines.people.traces import Followed, Traces, share

STRIDE = 4  # looks per detection in the whole frame, while the same people stay
SAME_BODY = 0.5  # minimum IoU of a person's box between two looks and the line between theirs; below, all is uncertain
ON_LINE = 0.9  # from this IoU on, boxes between the three looks are interpolated


@dataclass(frozen=True)
class PeopleConfig:
    """Configuration of detection and tracking. `looks`: sampled frames per second; `searches`: searches for small
    people per second, unless several are tracked; `patience`: seconds for which a person may be missed before the track
    ends; `smoothing`: standard deviation of the filter over the boxes, seconds. `onnx`: a detector in a file, used
    instead of `detector`, of which only `max_people` holds then."""

    detector: DetectorConfig = field(default_factory=DetectorConfig)
    looks: float = 6.0
    searches: float = 0.5
    patience: float = 1.0
    smoothing: float = 0.08
    onnx: OnnxConfig | None = None


@dataclass(frozen=True, eq=False)
class Look:
    """A frame to look at: its number, what returns it, and what is told the boxes of people in it."""

    frame: int
    see: Callable[[], Image]
    decided: Callable[[list[Box]], None]


class Follower:
    """Tracks the people of one shot with a detector. `fps` is the frame rate.

    While the last look found exactly the people of before, looks wait until `STRIDE` of them are there, and only the
    last one is searched for people. If it shows others, or somebody moved far, all that wait are searched. If it shows
    the same single person, only the middle one is looked at, where that person was; the others as well if the person
    was not on the line between the ends. Between the same several people, or nobody twice, nothing is looked at: no
    verdict depends on it.

    No tiles are searched while nothing but a single person changes since the last search, and a person who is wholly in
    view is then looked at only where they were.
    """

    def __init__(self, detector: Detector, config: PeopleConfig, fps: float) -> None:
        self._detector = detector
        self._sigma = config.smoothing * fps
        self._search_every = fps / config.searches
        self._next_search: float = 0
        self._traces = Traces(round(config.patience * fps), config.detector.max_people)
        self._before: Image | None = None
        self._searched: Scene | None = None
        self._waiting: list[Look] = []

    def look(
        self, frame: int, see: Callable[[], Image], decided: Callable[[list[Box]], None] = lambda boxes: None
    ) -> None:
        """Look for people in frame number `frame`; `see` returns it as [H, W, 3] RGB.

        `decided` is called with the boxes of the frame, now or within the next looks, at the latest by `over`.
        """
        self._waiting.append(Look(frame, see, decided))
        if self._before is None or self._search_due() or len(self._waiting) == STRIDE or not self._traces.steady():
            self._decide()

    def over(self, span: range) -> Followed:
        """Return all people in the frames of `span`, in pixels of the images given to `look`."""
        if self._waiting:
            self._decide()
        return self._traces.over(span, self._sigma)

    def forget(self, before: int) -> None:
        """Drop state that no span starting at frame `before` or later needs."""
        self._traces.forget(before)

    def _search_due(self) -> bool:
        frame = self._waiting[-1].frame
        return self._before is None or (frame >= self._next_search and not self._traces.several())

    def _decide(self) -> None:
        """Look at the last frame that waits, and at those before it as far as they are not certain."""
        search = self._search_due()
        *between, last = self._waiting
        self._waiting = []
        people = self._detect(last, search)
        found = self._between(between, last.frame, people) if between else {}
        for look in between:
            if look.frame in found:
                self._update(look, found[look.frame])
        self._update(last, people)
        for look in between:
            if look.frame not in found:
                look.decided(self._traces.at(look.frame))

    def _detect(self, look: Look, search: bool) -> list[Person]:
        if search:
            self._next_search = look.frame + self._search_every
        image = look.see()
        known = self._alone(look.frame, image)
        # the landmarks of a body that is partly outside drift: the detector has to place it anew
        if (
            known
            and known.visibility
            and not known.visibility.crosses
            and (person := self._detector.again(image, known))
        ):
            return [person]
        if known or not search:
            return self._detector.glance(image)
        people = self._detector.search(image)
        self._searched = Scene(image, [person.box for person in people])
        return people

    def _alone(self, frame: int, image: Image) -> Person | None:
        """Return the only tracked person as last detected, if nothing else changed since the last search."""
        tracked = self._traces.tracked(frame)
        if self._searched is None or self._search_every == 0 or len(tracked) != 1 or not self._traces.steady():
            return None
        person = tracked[0].person
        return person if self._searched.same_around(image, person.box) else None

    def _update(self, look: Look, people: list[Person]) -> None:
        image = look.see()
        before, self._before = self._before, image

        def camera() -> Similarity:
            return STILL if before is None else camera_motion(before, image)

        look.decided(self._traces.update(look.frame, people, partial(self._detector.again, image), camera))

    def _between(self, looks: list[Look], frame: int, people: list[Person]) -> dict[int, list[Person]]:
        """Return the people at those of `looks` that have to be looked at, if `people` are detected at `frame`."""
        pairs = self._traces.same(frame, people)
        if pairs is None:
            return self._glances(looks)
        if len(pairs) != 1:
            return {}
        ((trace, person),) = pairs
        middle = looks[len(looks) // 2]
        start, end = (trace.frames[-1], trace.person), (frame, person)
        seen, alike = self._on_line(middle, start, end)
        found, centre = {middle.frame: seen}, (middle.frame, seen)
        if alike < ON_LINE:
            for look in looks:
                if look is not middle and alike >= SAME_BODY:
                    half = (start, centre) if look.frame < middle.frame else (centre, end)
                    found[look.frame], alike = self._on_line(look, *half)
        if alike < SAME_BODY:
            return self._glances(looks)
        return {number: [person] for number, person in found.items()}

    def _on_line(self, look: Look, start: tuple[int, Person], end: tuple[int, Person]) -> tuple[Person, float]:
        """Return the person at a look, and the IoU of their box with the one on the line; 0 if they are not found."""
        (first, before), (last, after) = start, end
        person = self._detector.again(look.see(), before)
        if person is None:
            return before, 0.0
        line = before.box + (after.box - before.box) * share(first, look.frame, last)
        return person, iou(person.box, line)

    def _glances(self, looks: list[Look]) -> dict[int, list[Person]]:
        return {look.frame: self._detector.glance(look.see()) for look in looks}
