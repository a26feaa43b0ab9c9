"""Detect people in one image: in the whole frame, then in smaller tiles while detections are small."""

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from opendimo.pipelines.people.boxes import COUNTED, Box, overlap
from opendimo.pipelines.people.mediapipe_pose import Body, Image, MediaPipePose, Region
from opendimo.pipelines.people.visibility import Visibility, of_landmarks

FINEST = 1 / 3
"""Side of the smallest square tiles over the short side of the frame."""
DETECTABLE = 0.4
"""A person at least this share of the image side tall is detected reliably (measured on walkers seen from above)."""
SAME_PERSON = 0.7
"""Two boxes with a larger overlap than this show the same person."""
LIMB = 0.1
"""How far a body reaches beyond its landmarks, over the radius of its region."""
MIN_LANDMARKS = 8
"""Minimum number of landmarks, of 33, inside the frame for a detected person."""


@dataclass(frozen=True)
class DetectorConfig:
    """Thresholds of person detection. The threshold of the whole frame is lower than that of tiles, because the
    landmark model confirms every detection, and tiles that show parts of objects give more false positives.

    `min_score`: minimum score in the whole frame, 0 to 1. `min_tile_score`: minimum score in a tile. `min_visibility`:
    minimum mean visibility of the landmarks inside the frame. `margin`: added to the extent of the landmarks on each
    side, as a share of its longer side (landmarks end at eyes, knuckles and toes). `max_people`: maximum number of
    people per frame; more count as a crowd.
    """

    min_score: float = 0.3
    min_tile_score: float = 0.5
    min_visibility: float = 0.5
    margin: float = 0.12
    max_people: int = 6


@dataclass(frozen=True, eq=False)
class Person:
    """A person in a frame: the `box` (clipped to the frame), the body landmarks, how much of the body is visible, and
    the region in which it was detected (`found`). `visibility` is None if it was not measured."""

    box: Box
    body: Body
    visibility: Visibility | None
    found: Region

    def moved(self, motion: NDArray[np.float64]) -> "Person":
        """Return the person where the similarity `motion` [2, 3] of the image takes them; the box stays upright."""
        centre, half = (self.box[:2] + self.box[2:]) / 2, (self.box[2:] - self.box[:2]) / 2
        centre = motion[:, :2] @ centre + motion[:, 2]
        half = half * np.sqrt(np.linalg.det(motion[:, :2]))
        box = np.concatenate([centre - half, centre + half]).astype(np.float32)
        return replace(self, box=box, body=replace(self.body, region=self.body.region.moved(motion)))


class Detector:
    """Person detector based on MediaPipe's models, which need no download and no GPU."""

    def __init__(self, config: DetectorConfig) -> None:
        self.config = config
        self._pose = MediaPipePose(config.min_score)

    def glance(self, image: Image) -> list[Person]:
        """Detect large people in `image` [H, W, 3] RGB, with one pass over the whole frame."""
        return self._confirm(image, self._pose.detect(image), [])

    def search(self, image: Image) -> list[Person]:
        """Detect people in `image` [H, W, 3] RGB down to half the tallest one's height and an eighth of the frame.

        Searches tiles as large as the short side, then those in which people of half the tallest one's height are
        detected reliably; halves them while nobody is found. Where somebody was found, tiles show a plain colour: the
        detector tends to return only the most salient person.
        """
        height, width = image.shape[:2]
        people = self.glance(image)
        side, short, finest = max(height, width), min(height, width), round(FINEST * min(height, width))
        while side > finest:
            tallest = max((p.box[3] - p.box[1] for p in people), default=0.0)
            enough = int(COUNTED * tallest / DETECTABLE)
            if enough >= side:
                break
            side = short if side > short else max(finest, enough if people else side // 2)
            others = _without(image, people)
            regions = []
            for x, y in _tile_origins(width, height, side):
                tile = others[y : y + side, x : x + side]
                # drop people larger than the tile: a coarser tile or the whole frame detects them better
                regions += [
                    r.moved(np.array([[1, 0, x], [0, 1, y]])) for r in self._pose.detect(tile) if self._fits(r, side)
                ]
            people = self._confirm(image, regions, people)
        return people

    def again(self, image: Image, person: Person) -> Person | None:
        """Detect the same person in a later frame, near their previous position; None if not found."""
        return self._person(image, person.body.region)

    def _fits(self, region: Region, side: int) -> bool:
        return region.score >= self.config.min_tile_score and 2 * region.radius <= 1.3 * side

    def _confirm(self, image: Image, regions: list[Region], known: list[Person]) -> list[Person]:
        people = list(known)
        for region in sorted(regions, key=lambda r: -r.score):
            if len(people) == self.config.max_people:
                break
            if any(_same_region(region, p.found) for p in people):
                continue
            person = self._person(image, region)
            if person and not any(overlap(person.box, p.box) > SAME_PERSON for p in people):
                people.append(person)
        return people

    def _person(self, image: Image, region: Region) -> Person | None:
        """Return the person in `region` if the landmark model finds a body with enough of it inside the frame."""
        body = self._pose.outline(image, region)
        if body is None:
            return None
        points, visibility = body.landmarks[:, :2], body.landmarks[:, 2]
        limit = np.array([image.shape[1], image.shape[0]], np.float32)
        within = ((points >= 0) & (points < limit)).all(1)
        if within.sum() < MIN_LANDMARKS or visibility[within].mean() < self.config.min_visibility:
            return None
        low, high = points.min(0), points.max(0)
        margin = self.config.margin * (high - low).max()
        box = np.concatenate([np.clip(low - margin, 0, limit), np.clip(high + margin, 0, limit)]).astype(np.float32)
        return Person(box, body, of_landmarks(body.landmarks, (image.shape[1], image.shape[0])), region)


def _without(image: Image, people: list[Person]) -> Image:
    """Return the image with the mean colour where `people` are: in the hulls of their landmarks, and a bit around."""
    if not people:
        return image
    plain = image.copy()
    colour = image.mean((0, 1)).tolist()
    for person in people:
        hull = cv2.convexHull(person.body.landmarks[:, :2].round().astype(np.int32))
        cv2.fillConvexPoly(plain, hull, colour)
        cv2.polylines(plain, [hull], True, colour, max(1, round(2 * LIMB * person.body.region.radius)))
    return plain


def _same_region(a: Region, b: Region) -> bool:
    apart = np.hypot(a.centre[0] - b.centre[0], a.centre[1] - b.centre[1])
    small, large = sorted((a.radius, b.radius))
    return bool(apart < 0.3 * small and large < 1.5 * small)


def _tile_origins(width: int, height: int, side: int) -> list[tuple[int, int]]:
    """Return the top left corners of tiles that overlap by half or more and cover the frame."""
    columns = np.linspace(0, width - side, -(-2 * (width - side) // side) + 1).round().astype(int)
    rows = np.linspace(0, height - side, -(-2 * (height - side) // side) + 1).round().astype(int)
    return [(int(x), int(y)) for y in rows for x in columns]
