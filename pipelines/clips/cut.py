"""Cut one source item into clips in a single decoding pass, which shots, people, scores and the encoder share.

Only clips in which a second person comes or leaves are split and encoded in a second pass.

Frames flow through a chain of generators that buffer only a few of them; encoded clips are kept on disk.
"""

import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from opendimo.pipelines.clips.cameras import Cameras, Size, true_people
from opendimo.pipelines.clips.frame import Frame
from opendimo.pipelines.clips.letterbox import kept_region
from opendimo.pipelines.clips.pieces import Pieces
from opendimo.pipelines.clips.reader import Reader, as_data_error
from opendimo.pipelines.clips.shot import People, Shot, Window
from opendimo.pipelines.clips.shots import Cuts, ShotsConfig, by_content
from opendimo.pipelines.clips.windows import WindowsConfig, shots
from opendimo.pipelines.engine.stage import DataError
from opendimo.pipelines.people.batches import AnyDetector, follower
from opendimo.pipelines.people.follow import PeopleConfig
from opendimo.pipelines.people.mediapipe_pose import WEIGHTS
from opendimo.storage_schemas.ids import sha256_bytes, stable_id
from opendimo.storage_schemas.media import video
from opendimo.storage_schemas.media.spool import Spool
from opendimo.storage_schemas.rows import Row

VERSION = "6"
"""Version of the clip code; increase it when results change."""
COPIED = ("source_id", "capture_id", "view", "kind", "subject", "licence", "attribution", "fps_num", "fps_den")
NAMED = 5  # spans without a clip that a message names

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ClipsConfig:
    """How clips are cut.

    `short_side`: short side of the encoded clip in pixels; never upscaled. `analysis_side`: short side of the frames
    used for shots and scores, in pixels. `crf`: constant rate factor of the encoding. `encoder`: H.264 encoder;
    `dimo doctor` lists those that work; only libx264 gives the same bytes everywhere. `letterbox`: whether black bars
    are cropped, for sources without cameras. `copy`: copy the source's packets, without re-encoding, if a clip begins
    and ends at key frames (or is the whole source) and they are H.264 of the right size and rate; there is no loss, but
    key frames stay where they are.
    """

    short_side: int = 480
    analysis_side: int = 180
    crf: int = 20
    encoder: str = "libx264"
    letterbox: bool = True
    copy: bool = False
    windows: WindowsConfig = field(default_factory=WindowsConfig)
    shots: ShotsConfig = field(default_factory=ShotsConfig)
    people: PeopleConfig = field(default_factory=PeopleConfig)

    def identity(self) -> "ClipsConfig":
        """Return the config for work keys, without paths of weights and the device, which do not affect results."""
        onnx = self.people.onnx and replace(self.people.onnx, path="given", device="cpu", batch=1)
        shots = replace(self.shots, weights=self.shots.weights and "given")
        return replace(self, shots=shots, people=replace(self.people, onnx=onnx))


def clips_of(
    source: Row, config: ClipsConfig, detector: AnyDetector, cuts: Cuts | None = None, weights: str = WEIGHTS
) -> dict[str, list[Row]]:
    """Cut a source into rows of `clips`, one per window of a shot, and `clip_videos` and `fingerprints` if it shows a
    person.

    `source`: a row of `sources`. People come from its true joints if it has any, else from `detector`. `cuts`: shot
    detector, by default by content. `weights`: identity of both models. Videos are `Spooled`. A source without cameras
    is also cut where the size of its frames changes. If the source has `spans`, only these are cut; spans may overlap.
    Raises `DataError` if the source is unreadable, does not match its row or its cameras, or has no shot longer than
    the margins.
    """
    reader = Reader(source, config.letterbox)
    rows: dict[str, list[Row]] = {"clips": [], "clip_videos": [], "fingerprints": []}
    for part in reader.parts():
        cutter = _Cutter(reader, part, config, detector, weights)
        detected = cuts(cutter.frames()) if cuts else by_content(cutter.frames(), config.shots)
        for shot in shots(detected, config.windows.margin):
            for window in cutter.clips(shot):
                _extend(rows, window)
        for window in cutter.pieces():
            _extend(rows, window)
    empty = _spans_without_clip(reader.spans.stated, rows["clips"])
    if not rows["clips"]:
        problem = f"no clip of its spans: {empty}" if empty else "every shot is shorter than the margins at its cuts"
        raise DataError(f"{source['local_path']}: {problem}")
    if empty:
        log.warning("%s: no clip of %s", source["name"], empty)
    return rows


def _extend(rows: dict[str, list[Row]], more: dict[str, list[Row]]) -> None:
    for table, table_rows in more.items():
        rows[table].extend(table_rows)


def _spans_without_clip(spans: Sequence[Row], clips: list[Row]) -> str:
    """Name the spans without a clip and say why they have none; empty if all have one."""
    cut = {clip["span"] for clip in clips}
    empty = [f"{span['start']:g}-{span['end']:g} s" for index, span in enumerate(spans) if index not in cut]
    more = f" and {len(empty) - NAMED} more" if len(empty) > NAMED else ""
    why = "begins after the end of the video, or is shorter than the margins at cuts: correct it in the list"
    return f"{', '.join(empty[:NAMED])}{more}: {why}" if empty else ""


class _Cutter:
    """Cuts the clips of one part of a source: holds what they share."""

    def __init__(
        self, reader: Reader, part: video.Part, config: ClipsConfig, detector: AnyDetector, weights: str
    ) -> None:
        self.reader, self.part, self.source, self.path = reader, part, reader.source, reader.path
        self.config, self.detector, self.weights = config, detector, weights
        self.region = kept_region([k for k in reader.survey.lumas if k.shape == part.size[::-1]]) or (0, 0, *part.size)
        self.shape = self.region[2] - self.region[0], self.region[3] - self.region[1]
        self.size = fit((round(self.shape[0] * reader.survey.aspect), self.shape[1]), config.short_side)
        self.fps, self.spans = reader.fps, reader.spans
        self.cameras = Cameras.of(self.source, self.size)
        self.truth = true_people(self.source, self.cameras, self.size)
        self.encoding = video.Encoding(config.crf, config.encoder)
        self.copies = self._copies()
        self.spool = Spool()
        self._pieces = Pieces()

    def frames(self) -> Iterator[Frame]:
        """Yield all frames of the part up to the end of the last span, at clip size.

        Raises `DataError` if there are not as many as its cameras have.
        """
        shrink, count = self._shrinker(), 0
        with as_data_error(self.path):
            for count, picture in enumerate(video.fitted(self.part.frames, self._decoding()), 1):
                if self.part.first + count > self.spans.stop:
                    self.reader.read_all = True
                    break
                if self.cameras.frames and count > self.cameras.frames:
                    continue  # keep counting, for the error message below
                yield Frame(self.part.first + count - 1, picture, shrink(picture))
        if self.cameras.frames and count != self.cameras.frames:
            raise DataError(
                f"{self.path}: {count} frames were decoded, but its cameras have {self.cameras.frames}; "
                "check that they belong together"
            )

    def clips(self, frames: Iterator[Frame]) -> Iterator[dict[str, list[Row]]]:
        """Yield the rows of each window of one shot in each span, with its encoded video if it shows a person."""
        parts: dict[int, _ShotInSpan] = {}
        for frame in frames:
            spans = self.spans.at(frame.number)
            for ended in [index for index in parts if index not in spans]:
                yield from parts.pop(ended).rest()
            for index in spans:
                if index not in parts:
                    parts[index] = _ShotInSpan(self, index, frame.number)
                yield from parts[index].push(frame)
        for part in parts.values():
            yield from part.rest()

    def shot(self, people: People) -> Shot:
        """Return a new `Shot` that measures `people`."""
        return Shot(people, self.size, self.fps, self.config.people.looks, self.shape[1] / self.size[1])

    def rows(self, shot: Shot, window: Window, span_index: int) -> Iterator[dict[str, list[Row]]]:
        """Yield the rows of one window, with its encoded video if it shows a person, unless it is split."""
        whole, windows = window.span, self.config.windows
        splits = self.source["kind"] == "internet" and self.cameras.frames is None
        spans = shot.split(whole, windows.max_second_share, windows.min_rest) if splits else [whole]
        if spans == [whole]:
            yield self._rows(shot, window, span_index)
        else:
            for span in spans:
                self._pieces.add(span, span_index)

    def pieces(self) -> Iterator[dict[str, list[Row]]]:
        """Yield the rows of the pieces of windows that were split, measured and encoded in one more pass."""
        for piece in self._pieces.measured(self._again, self._piece):
            yield self._rows(*piece)

    def _again(self, span: range) -> Iterator[Frame]:
        shrink = self._shrinker()
        with as_data_error(self.path):
            for number, picture in zip(span, video.pictures(self.path, self._decoding(), span), strict=True):
                yield Frame(number, picture, shrink(picture))

    def _piece(self, start: int) -> tuple[Shot, Window]:
        # a second person who is hard to detect must not seem to leave: search in every look
        closer = replace(self.config.people, searches=math.inf)
        return self.shot(follower(self.detector, closer, float(self.fps))), self._encoding_window(start)

    def _rows(self, shot: Shot, window: Window, span_index: int) -> dict[str, list[Row]]:
        (encoded, encoder), span = self._bytes(window), window.span
        scores, of_span = shot.columns(span), [span_index] if self.spans.stated else []
        has_person = scores["track"] is not None
        clip_id = stable_id(
            "clip", self.source["content_sha256"], self.source["annotation_sha256"], self.source["capture_id"],
            self.source["view"], span.start, span.stop, self.config.identity(), VERSION, self.weights, *of_span,
        )  # fmt: skip
        digest = sha256_bytes(encoded)
        row = {
            **{name: self.source.get(name) for name in COPIED},
            "clip_id": clip_id,
            "name": f"{self.source['name']} {span.start}-{span.stop}",
            "start_frame": span.start,
            "end_frame": span.stop,
            "frames": len(span),
            "span": of_span[0] if of_span else None,
            "source_width": self.part.size[0],
            "source_height": self.part.size[1],
            "region": list(self.region),
            "width": self.size[0],
            "height": self.size[1],
            "video_sha256": digest if has_person else None,
            "encoder": encoder if has_person else None,
            **self.cameras.columns(span.start, span.stop),
            **scores,
            "frame_hashes": window.hashes,
            "hash_step": window.hash_step,
        }
        if not has_person:
            return {"clips": [row]}
        fingerprint = {"clip_id": clip_id, **window.fingerprint.columns()}
        return {
            "clips": [row],
            "clip_videos": [{"clip_id": clip_id, "video": self.spool.keep(encoded), "sha256": digest}],
            "fingerprints": [fingerprint],
        }

    def window(self, start: int, end: int) -> Window:
        """Open a window at frame `start`; it encodes its frames unless its packets can be copied at full length.

        `end`: one past the last frame that it may hold.
        """
        config = self.config.windows
        if self.copies is not None:
            full = range(start, min(start + config.max_frames, max(self.copies.borders), end))
            if self.copies.holds(full):
                return Window(start, self.fps, None)
        return self._encoding_window(start)

    def _encoding_window(self, start: int) -> Window:
        return Window(start, self.fps, video.Encoder(self.fps, self.encoding))

    def _bytes(self, window: Window) -> tuple[bytes, str]:
        """Return the encoded video of a window and the encoder used, or `copy`."""
        if window.encoder is not None:
            return window.encoder.finish(), self.config.encoder
        with as_data_error(self.path):
            if self.copies is not None and self.copies.holds(window.span):
                return self.copies.copy(window.span), "copy"
            encoder = video.Encoder(self.fps, self.encoding)  # cut short by a shot's end: decode again
            for picture in video.pictures(self.path, self._decoding(), window.span):
                encoder.push(picture)
            return encoder.finish(), self.config.encoder

    def _copies(self) -> video.Copyable | None:
        """Return where packets may be copied; None if the config forbids it, or pictures are turned or scaled."""
        if not self.config.copy or self.reader.rotation or self.reader.mirrored or self.size != self.part.size:
            return None
        with as_data_error(self.path):
            return video.copyable(self.path, self.size, self.fps)

    def _shrinker(self) -> video.Shrinker:
        return video.Shrinker(fit(self.size, self.config.analysis_side))

    def people(self) -> People:
        """Return a tracker of one shot's people."""
        return self.truth or follower(self.detector, self.config.people, float(self.fps))

    def _decoding(self) -> video.Wanted:
        reader = self.reader
        return video.Wanted(self.part.size, self.size, reader.rotation, self.region, reader.resampled, reader.mirrored)


class _ShotInSpan:
    """The part of one shot that lies in one span, while its frames arrive."""

    def __init__(self, cutter: _Cutter, span: int, start: int) -> None:
        self.cutter, self.span, self.start = cutter, span, start
        self.config = cutter.config.windows
        self.shot = cutter.shot(cutter.people())
        self.open_windows: list[Window] = []
        self.covered = 0  # frames before this one are in a clip

    def push(self, frame: Frame) -> Iterator[dict[str, list[Row]]]:
        """Add a frame; yield the rows of the window that it completes, if any."""
        windows = self.open_windows
        if (frame.number - self.start) % self.config.step == 0:
            windows.append(self.cutter.window(frame.number, self.cutter.spans.end(self.span)))
        self.shot.add(frame, windows[0].start if windows else frame.number)
        for window in windows:
            window.push(frame)
        if windows and len(windows[0]) == self.config.max_frames:
            self.covered = windows[0].span.stop
            yield from self.cutter.rows(self.shot, windows.pop(0), self.span)

    def rest(self) -> Iterator[dict[str, list[Row]]]:
        """Yield the rows of the last window, unless it is too short or its frames are in other clips."""
        # the first remaining window contains all frames of the others
        for rest in self.open_windows[:1]:
            is_new = len(rest) >= self.config.min_rest and rest.span.stop > self.covered
            if rest.start == self.start or is_new:
                yield from self.cutter.rows(self.shot, rest, self.span)


def fit(size: Size, short_side: int) -> Size:
    """Return the size, rounded to even numbers, scaled down to a short side of at most `short_side` pixels."""
    scale = min(1.0, short_side / min(size))
    width, height = (max(2, int(side * scale + 1e-6) // 2 * 2) for side in size)
    return width, height
