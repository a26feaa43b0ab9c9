"""Measure a shot while its frames are decoded, and encode its windows into clips."""

from collections.abc import Callable
from fractions import Fraction
from functools import partial
from typing import Protocol

import numpy as np

from opendimo.pipelines.clips.frame import Frame, Image
from opendimo.pipelines.clips.letterbox import bar_share
from opendimo.pipelines.clips.scores import Gray, Scores, perceptual_hash
from opendimo.pipelines.clips.screen_text import text_share
from opendimo.pipelines.clips.windows import stretches
from opendimo.pipelines.duplicates.fingerprint import Fingerprint
from opendimo.pipelines.people import visibility
from opendimo.pipelines.people.boxes import Box, main_person, occlusion, people_counts
from opendimo.pipelines.people.follow import Followed
from opendimo.storage_schemas.media.video import Encoder
from opendimo.storage_schemas.rows import Row

Size = tuple[int, int]  # width, height
FORGET_EVERY = 600  # frames


class People(Protocol):
    """Source of people's boxes and tracks: a detector (`follow.Follower`) or a render's truth (`truth.TruePeople`)."""

    def look(self, frame: int, image: Callable[[], Image], decided: Callable[[list[Box]], None], /) -> None: ...

    def over(self, span: range, /) -> Followed: ...

    def forget(self, before: int, /) -> None: ...


class Shot:
    """Measures the frames of a shot: people and scores `looks` times per second, text and bars every two seconds.

    `size`: width and height of the clips. `scale`: source pixels per clip pixel, in height.
    """

    def __init__(self, people: People, size: Size, fps: Fraction, looks: float, scale: float) -> None:
        self._people, self._size, self._scale = people, size, scale
        self._scores = Scores()
        self._look_every = max(1, round(float(fps) / looks))
        self._read_every = max(1, round(2 * fps))
        self._frames = 0
        self._before: Frame | None = None

    def add(self, frame: Frame, oldest: int) -> None:
        """Measure a frame if it is due; scores before frame `oldest` are not needed any more and may be dropped."""
        if self._frames % self._look_every == 0:
            before = None if self._before is None else self._before.gray
            self._people.look(frame.number, lambda: frame.image, partial(self._score, frame.number, frame.gray, before))
            if frame.hdr_share is not None:
                self._scores.put(frame.number, hdr_share=frame.hdr_share)
        if self._frames % self._read_every == 0:
            self._scores.put(frame.number, text_share=text_share(frame.luma), bars=bar_share(frame.gray))
        if self._frames % FORGET_EVERY == 0:
            self._scores.forget(oldest)
            self._people.forget(oldest)
        self._before = frame
        self._frames += 1

    def columns(self, span: range) -> Row:
        """Return the score and person columns of a clip with the frames of `span`."""
        people = self._people.over(span)  # decides on all looks, so that scores are complete
        return self._scores.over(span) | self._person(people)

    def split(self, span: range, most: float, least: int) -> list[range]:
        """Return the spans into which a clip of `span` is split, where a second person comes or leaves.

        See `stretches` for `most` and `least`. Everybody is compared with the main person of the span, so spans are
        split again as long as that changes something.
        """
        tracks = self._people.over(span).tracks
        main = main_person(tracks)
        if main is None:
            return [span]
        found = stretches(people_counts(tracks, main) >= 2, most, least, self._look_every)
        parts = [span[part.start : part.stop] for part in found]
        return parts if parts == [span] else [piece for part in parts for piece in self.split(part, most, least)]

    def _score(self, frame: int, gray: Gray, before: Gray | None, boxes: list[Box]) -> None:
        """Score a frame. `boxes`: of people, in pixels of the clip."""
        shrink = np.tile(np.divide(gray.shape[::-1], self._size), 2)
        self._scores.add(frame, gray, before, [box * shrink for box in boxes])

    def _person(self, people: Followed) -> Row:
        main = main_person(people.tracks)
        nobody = {"track": None, "tracks": None, "main_person": None, "people": 0.0, "second_share": 0.0,
                  "person_share": 0.0, "person_height": 0.0, "person_pixels": None, "occlusion": None}  # fmt: skip
        if main is None:
            return nobody | visibility.mean([])
        track = people.tracks[main]
        counts = people_counts(people.tracks, main)
        height = float(np.nanmedian(track[:, 3] - track[:, 1]))
        return {
            "track": track,
            "tracks": people.tracks,
            "main_person": main,
            "people": float(np.median(counts)),
            "second_share": float((counts >= 2).mean()),
            "person_share": float(np.isfinite(track[:, 0]).mean()),
            "person_height": height / self._size[1],
            "person_pixels": height * self._scale,
            "occlusion": occlusion(people.tracks, main),
            **visibility.mean(people.seen[main]),
        }


class Window:
    """Encodes the frames of one clip as they arrive; hashes every `hash_step`-th frame and computes the fingerprint."""

    def __init__(self, start: int, fps: Fraction, encoder: Encoder | None) -> None:
        """Start a window at frame `start`. Without an `encoder` its frames are counted and hashed, but not encoded."""
        self.start, self.encoder = start, encoder
        self.hash_step = max(1, round(fps))
        self.hashes: list[str] = []
        self.fingerprint = Fingerprint(float(fps))
        self._frames = 0

    def __len__(self) -> int:
        return self._frames

    @property
    def span(self) -> range:
        """Source numbers of the frames added so far."""
        return range(self.start, self.start + self._frames)

    def push(self, frame: Frame) -> None:
        """Add a frame."""
        if self._frames % self.hash_step == 0:
            self.hashes.append(perceptual_hash(frame.gray))
        self.fingerprint.add(frame.gray)
        if self.encoder is not None:
            self.encoder.push(frame.picture)
        self._frames += 1
