"""Read the frames of a source part by part: a part has frames of one size."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from fractions import Fraction

from opendimo.pipelines.clips.cameras import Cameras, Size
from opendimo.pipelines.clips.spans import Spans
from opendimo.pipelines.engine.stage import DataError
from opendimo.storage_schemas.media import video
from opendimo.storage_schemas.media.orientation import turned
from opendimo.storage_schemas.rows import Row

BAR_SAMPLES = 12  # pictures, spread over a video, that are used to detect black bars


class Reader:
    """Reads the frames of one source up to the end of its last span.

    `letterbox`: whether black bars are cropped; `survey` are key frames in which they are detected. `resampled` is the
    rate to which frames are resampled: that of sources from the internet without per-frame cameras, else None.
    `read_all`: whether the frames of all spans were read.
    """

    def __init__(self, source: Row, letterbox: bool) -> None:
        self.source, self.path = source, source["local_path"]
        self.stated: Size = (source["width"], source["height"])
        self.rotation, self.mirrored = source["rotation"], bool(source.get("mirrored"))  # null before schema 5
        self.fps = _rate(source)
        self.spans = Spans(source.get("spans"), self.fps)
        self.read_all = False
        keep_frames = source["kind"] != "internet" or Cameras.of(source, self.stated).frames is not None
        self.resampled = None if keep_frames else self.fps
        # a source with a camera is not cropped, because its calibration includes the bars
        self.has_camera = source.get("K") is not None
        detect_bars = letterbox and not self.has_camera
        with as_data_error(self.path):
            self.survey = video.survey(self.path, BAR_SAMPLES if detect_bars else 0, self.rotation, self.mirrored)

    def parts(self) -> Iterator[video.Part]:
        """Yield the parts of the source with their upright sizes.

        Raises `DataError` if there is no frame, if the first one has another size than stated, or if the size changes
        although the source has a camera, which holds for one size.
        """
        part = None
        for part in self._stored_parts():
            size = turned(part.size, self.rotation)
            if part.first == 0 and size != self.stated:
                raise DataError(
                    f"{self.path}: frame 0 is {_text(size)}, the source table says {_text(self.stated)}: "
                    "ingest the source again"
                )
            if size != self.stated and self.has_camera:
                raise DataError(
                    f"{self.path}: frame {part.first} is {_text(size)}, those before are {_text(self.stated)}, as its "
                    "camera: re-encode the video to one size"
                )
            yield replace(part, size=size)
            if self.read_all:
                return
        if part is None:
            raise DataError(f"{self.path}: no frame can be decoded")

    def _stored_parts(self) -> Iterator[video.Part]:
        with as_data_error(self.path):
            yield from video.parts(self.path, self.resampled)


@contextmanager
def as_data_error(path: str) -> Iterator[None]:
    """Turn a `ValueError` into a `DataError` with the path: the video is invalid."""
    try:
        yield
    except (FileNotFoundError, DataError):
        raise
    except ValueError as error:
        raise DataError(f"{path}: {error}") from error


def _text(size: Size) -> str:
    return f"{size[0]}x{size[1]}"


def _rate(source: Row) -> Fraction:
    """Return the frame rate of a source. Raises `DataError` if it is 0, as rows before schema 5 may state."""
    if source["fps_num"] <= 0 or source["fps_den"] <= 0:
        raise DataError(f"{source['local_path']}: no frame rate: re-encode it with a constant one and ingest it again")
    return Fraction(source["fps_num"], source["fps_den"])
