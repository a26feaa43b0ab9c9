"""Finding people in one image: the whole frame first, then ever smaller tiles while the people found are small."""

from dataclasses import dataclass

import numpy as np

from opendimo.pipelines.people.boxes import COUNTED, Box, overlap
from opendimo.pipelines.people.mediapipe_pose import Body, Image, MediaPipePose, Region
from opendimo.pipelines.people.visibility import Visibility, of_landmarks

TILES = (1.0, 1 / 2, 1 / 3)
"""Sides of the square tiles over the short side of the frame, coarse to fine."""
DETECTABLE = 0.4
"""A person of at least this share of an image's side is found reliably (measured on walkers seen from above)."""
SAME_PERSON = 0.7
"""Two boxes that overlap more than this show one person."""
MIN_LANDMARKS = 8
"""Fewest landmarks in the frame, of 33, that make a person."""


@dataclass(frozen=True)
class DetectorConfig:
    """When a detection is a person. The whole frame may answer with a low score, because the landmark model has to
    confirm it; tiles, which show parts of things, may not.

    `min_score`: least score in the whole frame, 0 to 1. `min_tile_score`: least score in a tile. `min_visibility`:
    least mean visibility of the landmarks inside the frame. `margin`: what the box adds to the landmarks' extent on
    each side, over its longer side (landmarks end at eyes, knuckles and toes). `max_people`: people looked for in a
    frame; more are a crowd.
    """

    min_score: float = 0.3
    min_tile_score: float = 0.5
    min_visibility: float = 0.5
    margin: float = 0.12
    max_people: int = 6


@dataclass(frozen=True, eq=False)
class Person:
    """A person in a frame: the `box` (clipped to the frame), the body behind it, how much of it is in view, and the
    region it was found in."""

    box: Box
    body: Body
    visibility: Visibility
    found: Region


class Detector:
    """People in images by MediaPipe's models, which need no download and no GPU."""

    def __init__(self, config: DetectorConfig) -> None:
        self.config = config
        self._pose = MediaPipePose(config.min_score)

    def glance(self, image: Image) -> list[Person]:
        """The large people in `image` [H, W, 3] RGB: one look at the whole frame."""
        return self._confirm(image, self._pose.detect(image), [])

    def search(self, image: Image) -> list[Person]:
        """People in `image` [H, W, 3] RGB, down to half the height of the tallest one, and to an eighth of the frame.

        Ever smaller tiles are looked at until people of half the tallest one's height cannot be missed.
        """
        height, width = image.shape[:2]
        people = self.glance(image)
        looked_at = max(height, width)
        for share in TILES:
            tallest = max((p.box[3] - p.box[1] for p in people), default=0.0)
            if COUNTED * tallest >= DETECTABLE * looked_at:
                break
            looked_at = round(share * min(height, width))
            regions = []
            for x, y in _tile_origins(width, height, looked_at):
                tile = image[y : y + looked_at, x : x + looked_at]
                # what is larger than the tile was seen better before
                regions += [r.moved(x, y) for r in self._pose.detect(tile) if self._fits(r, looked_at)]
            people = self._confirm(image, regions, people)
        return people

    def again(self, image: Image, person: Person) -> Person | None:
        """The same person some frames later, looked for where they were."""
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
        """The person in `region`, if the landmark model sees a body there and enough of it in the frame."""
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


def _same_region(a: Region, b: Region) -> bool:
    apart = np.hypot(a.centre[0] - b.centre[0], a.centre[1] - b.centre[1])
    small, large = sorted((a.radius, b.radius))
    return bool(apart < 0.3 * small and large < 1.5 * small)


def _tile_origins(width: int, height: int, side: int) -> list[tuple[int, int]]:
    """Top left corners of tiles that overlap by half or more and cover the frame."""
    columns = np.linspace(0, width - side, -(-2 * (width - side) // side) + 1).round().astype(int)
    rows = np.linspace(0, height - side, -(-2 * (height - side) // side) + 1).round().astype(int)
    return [(int(x), int(y)) for y in rows for x in columns]
