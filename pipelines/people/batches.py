"""Track people with an ONNX detector, which sees people of all sizes in one pass over several frames."""

from collections.abc import Callable

import numpy as np

from opendimo.pipelines.people.boxes import Box
from opendimo.pipelines.people.camera_motion import STILL, Similarity, camera_motion
from opendimo.pipelines.people.detector import Detector, Person
from opendimo.pipelines.people.follow import STRIDE, Follower, Look, PeopleConfig
from opendimo.pipelines.people.mediapipe_pose import Body, Image, MediaPipePose, Region
from opendimo.pipelines.people.onnx_boxes import Boxes, OnnxBoxes, OnnxConfig
from opendimo.pipelines.people.traces import Followed, Traces
from opendimo.pipelines.people.visibility import of_landmarks


class OnnxDetector:
    """Person detector in an ONNX file. `batch`: frames per call.

    Boxes are the file's. How much of a body is visible is measured by MediaPipe's landmark model in some of the frames.
    """

    def __init__(self, config: OnnxConfig, max_people: int) -> None:
        """Raises `ValueError` if the file cannot be used, see `OnnxBoxes`. `max_people`: maximum number per frame."""
        self._boxes, self._max_people = OnnxBoxes(config), max_people
        self._pose = MediaPipePose(1.0)
        self.batch = self._boxes.batch

    def detect(self, images: list[Image], measured: list[bool]) -> list[list[Person]]:
        """Return the people in each of `images` [H, W, 3] RGB; visibility only where `measured` says so."""
        found = self._boxes.detect(images)
        return [
            [self._person(image, box, measure) for box in boxes[: self._max_people]]
            for image, boxes, measure in zip(images, found, measured, strict=True)
        ]

    def _person(self, image: Image, row: Boxes, measure: bool) -> Person:
        box = row[:4].copy()
        x, y = (box[:2] + box[2:]) / 2
        region = Region((float(x), float(y)), (float(x), float(y - (box[2:] - box[:2]).max() / 2)), float(row[4]))
        body = self._pose.outline(image, region) if measure else None
        if body is None:
            return Person(box, Body(np.full((33, 3), np.nan, np.float32), region), None, region)
        return Person(box, body, of_landmarks(body.landmarks, (image.shape[1], image.shape[0])), region)


class BatchFollower:
    """Tracks the people of one shot like `follow.Follower`, in batches of looks. `fps` is the frame rate."""

    def __init__(self, detector: OnnxDetector, config: PeopleConfig, fps: float) -> None:
        self._detector = detector
        self._sigma = config.smoothing * fps
        self._traces = Traces(round(config.patience * fps), config.detector.max_people)
        self._before: Image | None = None
        self._looked = 0
        self._waiting: list[Look] = []

    def look(
        self, frame: int, see: Callable[[], Image], decided: Callable[[list[Box]], None] = lambda boxes: None
    ) -> None:
        """Look for people in frame number `frame`; `see` returns it as [H, W, 3] RGB.

        `decided` is called with the boxes of the frame when a batch is complete, at the latest by `over`.
        """
        self._waiting.append(Look(frame, see, decided))
        if len(self._waiting) == self._detector.batch:
            self._decide()

    def over(self, span: range) -> Followed:
        """Return all people in the frames of `span`, in pixels of the images given to `look`."""
        self._decide()
        return self._traces.over(span, self._sigma)

    def forget(self, before: int) -> None:
        """Drop state that no span starting at frame `before` or later needs."""
        self._traces.forget(before)

    def _decide(self) -> None:
        images = [look.see() for look in self._waiting]
        measured = [(self._looked + k) % STRIDE == 0 for k in range(len(images))]
        for look, image, people in zip(self._waiting, images, self._detector.detect(images, measured), strict=True):
            before, self._before = self._before, image

            def camera(before: Image | None = before, image: Image = image) -> Similarity:
                return STILL if before is None else camera_motion(before, image)

            # the detector has seen the whole frame: nobody is looked for a second time
            look.decided(self._traces.update(look.frame, people, lambda person: None, camera))
        self._looked += len(images)
        self._waiting = []


AnyDetector = Detector | OnnxDetector


def follower(detector: AnyDetector, config: PeopleConfig, fps: float) -> Follower | BatchFollower:
    """Return a new tracker of one shot's people by `detector`."""
    if isinstance(detector, OnnxDetector):
        return BatchFollower(detector, config, fps)
    return Follower(detector, config, fps)
