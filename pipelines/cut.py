"""From one source item to its clips, in one decoding pass: shots, people, scores and the encoder share the frames.

Frames are pulled through a chain of generators; the encoder pulls, and what it pulls has been measured on the way.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from pipelines.clip_cameras import Cameras, Row, Size, true_people
from pipelines.people.boxes import Box, Tracks, main_person, people_count
from pipelines.people.detector import Detector
from pipelines.people.follow import Follower, PeopleConfig
from pipelines.people.mediapipe_pose import WEIGHTS
from pipelines.people.truth import TruePeople
from pipelines.scores import Scores, perceptual_hash
from pipelines.shots import Frame, Image, ShotsConfig, spans
from pipelines.stage import DataError
from storage_schemas import video
from storage_schemas.ids import sha256_bytes, stable_id

VERSION = "1"
"""Version of the code behind clips: raise it when answers change."""
COPIED = ("source_id", "capture_id", "view", "kind", "subject", "licence", "attribution", "fps_num", "fps_den")


@dataclass(frozen=True)
class ClipsConfig:
    """How clips are cut. `short_side`: short side of the encoded clip in pixels (never upscaled). `analysis_side`:
    short side of the frames that shots and scores are measured on. `crf`: quality of the encoding."""

    short_side: int = 480
    analysis_side: int = 180
    crf: int = 20
    shots: ShotsConfig = field(default_factory=ShotsConfig)
    people: PeopleConfig = field(default_factory=PeopleConfig)


def clips_of(source: Row, config: ClipsConfig, detector: Detector) -> dict[str, list[Row]]:
    """Rows of `clips`, one per span of a shot, and of `clip_videos` where there is a person.

    `source` is a row of `sources`. Where it has true joints these say who is seen, else `detector` does.
    Raises `DataError` where the video is unreadable or disagrees with its row or its cameras.
    """
    cutter = _Cutter(source, config, detector)
    rows: dict[str, list[Row]] = {"clips": [], "clip_videos": []}
    for span in spans(cutter.frames(), config.shots):
        clip, clip_video = cutter.clip(span)
        rows["clips"].append(clip)
        rows["clip_videos"].extend(clip_video)
    return rows


class _People(Protocol):
    def look(self, frame: int, image: Image, /) -> list[Box]: ...

    def tracks(self, frames: int, /) -> Tracks: ...


class _Cutter:
    """What all clips of one source share."""

    def __init__(self, source: Row, config: ClipsConfig, detector: Detector) -> None:
        self.source, self.config, self.detector = source, config, detector
        self.stored: Size = (source["width"], source["height"])
        self.size = _fit(self.stored, config.short_side)
        self.small = _fit(self.size, config.analysis_side)
        self.fps = Fraction(source["fps_num"], source["fps_den"])
        self.cameras = Cameras.of(source, self.size)
        self.truth = true_people(source, self.cameras, self.size)

    def frames(self) -> Iterator[Frame]:
        """All frames of the source, at clip size. Raises `DataError` where their size or number is not as stated."""
        path, count = self.source["local_path"], 0
        for count, image in enumerate(_readable(path, self.source["rotation"]), 1):
            if (image.shape[1], image.shape[0]) != self.stored:
                seen, said = f"{image.shape[1]}x{image.shape[0]}", f"{self.stored[0]}x{self.stored[1]}"
                raise DataError(f"{path}: frame {count - 1} is {seen}, the source says {said}: ingest it again")
            if self.cameras.frames and count > self.cameras.frames:
                continue  # only to name the right count below
            resized = video.resize(image, self.size)
            yield Frame(count - 1, resized, video.resize(resized, self.small))
        if self.cameras.frames and count != self.cameras.frames:
            raise DataError(
                f"{path}: {count} frames were decoded, but its cameras have {self.cameras.frames}: "
                "check that they belong together"
            )
        if not count:
            raise DataError(f"{path}: no frame can be decoded")

    def clip(self, span: Iterator[Frame]) -> tuple[Row, list[Row]]:
        """The row of one span, and that of its encoded video if it shows a person."""
        watch = _Watch(self, span)
        encoded = video.encode(watch.images(), self.fps, crf=self.config.crf)
        start, end = watch.start, watch.start + watch.frames
        seen = watch.seen()
        clip_id = stable_id(
            "clip", self.source["content_sha256"], self.source["annotation_sha256"], self.source["capture_id"],
            self.source["view"], start, end, self.config, VERSION, WEIGHTS,
        )  # fmt: skip
        digest = sha256_bytes(encoded)
        row = {
            **{name: self.source.get(name) for name in COPIED},
            "clip_id": clip_id,
            "name": f"{self.source['name']} {start}-{end}",
            "start_frame": start,
            "end_frame": end,
            "frames": end - start,
            "source_width": self.stored[0],
            "source_height": self.stored[1],
            "width": self.size[0],
            "height": self.size[1],
            "video_sha256": None if seen["track"] is None else digest,
            **self.cameras.columns(start, end),
            **seen,
            **watch.scores.medians(),
            "frame_hashes": watch.scores.hashes,
        }
        kept = seen["track"] is not None
        return row, [{"clip_id": clip_id, "video": encoded, "sha256": digest}] if kept else []


class _Watch:
    """Measures the frames of a span while they pass by."""

    def __init__(self, cutter: _Cutter, span: Iterator[Frame]) -> None:
        self.span = span
        self.start = 0
        self.frames = 0
        self.scores = Scores()
        self.height = cutter.size[1]
        self._cutter = cutter
        self._people: _People | None = None
        self._scale = np.tile(np.divide(cutter.small, cutter.size), 2)
        fps = float(cutter.fps)
        self._look_every = max(1, round(fps / cutter.config.people.looks))
        self._hash_every = max(1, round(fps))

    def images(self) -> Iterator[Image]:
        before: NDArray[np.uint8] | None = None
        for frame in self.span:
            if self._people is None:
                self.start = frame.number
                self._people = self._observer(frame.number)
            gray = np.asarray(cv2.cvtColor(frame.small, cv2.COLOR_RGB2GRAY), np.uint8)
            if self.frames % self._look_every == 0:
                boxes = self._people.look(self.frames, frame.image)
                self.scores.add(gray, before, [box * self._scale for box in boxes])
            if self.frames % self._hash_every == 0:
                self.scores.hashes.append(perceptual_hash(gray))
            before = gray
            self.frames += 1
            yield frame.image

    def seen(self) -> Row:
        """The columns about people."""
        assert self._people is not None, "a span has at least one frame"
        tracks = self._people.tracks(self.frames)
        main = main_person(tracks)
        if main is None:
            return {"track": None, "people": 0.0, "person_share": 0.0, "person_height": 0.0}
        track = tracks[main]
        return {
            "track": track,
            "people": people_count(tracks, main),
            "person_share": float(np.isfinite(track[:, 0]).mean()),
            "person_height": float(np.nanmedian(track[:, 3] - track[:, 1])) / self.height,
        }

    def _observer(self, start: int) -> _People:
        if self._cutter.truth is not None:
            return TruePeople(self._cutter.truth[:, start:])
        return Follower(self._cutter.detector, self._cutter.config.people, float(self._cutter.fps))


def _fit(size: Size, short_side: int) -> Size:
    """Even size of the same shape with a short side of at most `short_side`."""
    scale = min(1.0, short_side / min(size))
    width, height = (max(2, int(side * scale + 1e-6) // 2 * 2) for side in size)
    return width, height


def _readable(path: str, rotation: int) -> Iterator[Image]:
    try:
        yield from video.frames(path, rotation=rotation)
    except FileNotFoundError:
        raise
    except ValueError as error:
        raise DataError(f"{path}: {error}") from error
