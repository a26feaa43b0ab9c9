"""Pictures to H.264 in MP4: constant frame rate, a key frame every second, the source's colour tags."""

import io
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from typing import cast

import av
import av.error
import numpy as np
from av.container import OutputContainer
from av.video.codeccontext import VideoCodecContext
from av.video.frame import PictureType, VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray

from opendimo.storage_schemas.media.encoders import OPTIONS, SOFTWARE, present
from opendimo.storage_schemas.media.opening import opened


@dataclass(frozen=True)
class Encoding:
    """`crf`: quality (lower is better). `encoder`: a key of `encoders.OPTIONS`; all but libx264 need hardware, and do
    not give the same bytes everywhere."""

    crf: int = 20
    encoder: str = SOFTWARE


class Encoder:
    """Takes pictures (yuv420p, all of one even size) one at a time; `finish` gives the bytes of the file."""

    def __init__(self, fps: Fraction, encoding: Encoding) -> None:
        self.frames = 0
        self._fps, self._encoding = fps, encoding
        self._buffer = io.BytesIO()
        self._container: OutputContainer | None = None
        self._stream: VideoStream | None = None

    def push(self, picture: VideoFrame) -> None:
        """Add a picture. Raises `ValueError` where its size is odd."""
        if self._container is None or self._stream is None:
            self._container, self._stream = self._open(picture)
        picture.pts, picture.time_base = self.frames, 1 / self._fps
        picture.pict_type = PictureType.NONE  # which frames are key frames is not the source's to say
        self._container.mux(self._stream.encode(picture))
        self.frames += 1

    def finish(self) -> bytes:
        """The whole file. Raises `ValueError` where there is no picture."""
        if self._container is None or self._stream is None:
            raise ValueError("no frames to encode")
        self._container.mux(self._stream.encode())
        self._container.close()
        with self._buffer:  # let go at once: the container refers to itself, so that it stays until it is looked for
            return self._buffer.getvalue()

    def _open(self, first: VideoFrame) -> tuple[OutputContainer, VideoStream]:
        if first.height % 2 or first.width % 2:
            raise ValueError(f"H.264 needs even sizes, got {first.width}x{first.height}")
        container = av.open(self._buffer, "w", format="mp4")
        name = self._encoding.encoder
        options = OPTIONS[name](self._encoding.crf)
        stream = cast(VideoStream, container.add_stream(name, rate=self._fps, options=options))
        stream.width, stream.height, stream.pix_fmt = first.width, first.height, "yuv420p"
        stream.codec_context.gop_size = max(1, round(self._fps))
        # with its defaults x264 gives other bytes for the same frames every few times
        stream.codec_context.thread_count = 1
        _tag(stream.codec_context, first)
        return container, stream


def encode(images: Iterable[NDArray[np.uint8]], fps: Fraction, *, crf: int = 20) -> bytes:
    """Frames [H, W, 3] RGB of one even size -> H.264 MP4 bytes (yuv420p, constant frame rate, a key frame a second).

    Raises `ValueError` where there is no frame or a size is odd.
    """
    encoder = Encoder(fps, Encoding(crf))
    for image in images:
        height, width = image.shape[:2]
        if height % 2 or width % 2:
            raise ValueError(f"H.264 needs even sizes, got {width}x{height}")
        encoder.push(VideoFrame.from_ndarray(image, format="rgb24").reformat(format="yuv420p"))
    return encoder.finish()


def check_encoder(name: str) -> None:
    """Really encode a few frames. Raises `ValueError` where this machine cannot."""
    if name not in OPTIONS:
        raise ValueError(f"no encoder {name!r}; there are {', '.join(OPTIONS)}")
    if not present(name):
        raise ValueError(f"{name}: not in this build of FFmpeg's libraries")
    encoder = Encoder(Fraction(24), Encoding(encoder=name))
    try:
        for shade in range(8):
            image = np.full((256, 256, 3), 20 * shade, np.uint8)
            encoder.push(VideoFrame.from_ndarray(image, format="rgb24").reformat(format="yuv420p"))
        with opened(encoder.finish()) as (container, stream):
            count = sum(1 for _ in container.decode(stream))
    except (av.error.FFmpegError, OSError) as error:
        raise ValueError(f"{name}: no hardware for it, or no driver ({error})") from error
    if count != 8:
        raise ValueError(f"{name}: {count} of 8 frames came back")


def working_encoders() -> list[str]:
    """Names of all encoders that work on this machine, the software one first."""
    return [name for name in OPTIONS if _works(name)]


def _works(name: str) -> bool:
    try:
        check_encoder(name)
    except ValueError:
        return False
    return True


def _tag(context: VideoCodecContext, picture: VideoFrame) -> None:
    context.color_range = picture.color_range
    context.colorspace = picture.colorspace
    context.color_primaries = picture.color_primaries
    context.color_trc = picture.color_trc
