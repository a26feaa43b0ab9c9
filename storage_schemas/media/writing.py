"""Encode frames to H.264 in MP4, with constant frame rate, a key frame every second, and the source's colour tags."""

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
    """Encoder settings.

    `crf` is the quality (lower is better). `encoder` is a key of `encoders.OPTIONS`; all but libx264 need hardware, and
    their output may differ between machines.
    """

    crf: int = 20
    encoder: str = SOFTWARE


class Encoder:
    """Encode frames (yuv420p, all of the same even size) one at a time; `finish` returns the bytes of the file."""

    def __init__(self, fps: Fraction, encoding: Encoding) -> None:
        self.frames = 0
        self._fps, self._encoding = fps, encoding
        self._buffer = io.BytesIO()
        self._container: OutputContainer | None = None
        self._stream: VideoStream | None = None

    def push(self, picture: VideoFrame) -> None:
        """Add a frame. Raises `ValueError` if its width or height is odd."""
        if self._container is None or self._stream is None:
            self._container, self._stream = self._open(picture)
        picture.pts, picture.time_base = self.frames, 1 / self._fps
        picture.pict_type = PictureType.NONE  # do not inherit key frames from the source
        self._container.mux(self._stream.encode(picture))
        self.frames += 1

    def finish(self) -> bytes:
        """Return the bytes of the file. Raises `ValueError` if no frame was added."""
        if self._container is None or self._stream is None:
            raise ValueError("no frames to encode")
        self._container.mux(self._stream.encode())
        self._container.close()
        with self._buffer:  # free the buffer now: the container is in a reference cycle, freed only by the collector
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
        # with its default number of threads, x264 sometimes gives different bytes for the same frames
        stream.codec_context.thread_count = 1
        _tag(stream.codec_context, first)
        return container, stream


def encode(images: Iterable[NDArray[np.uint8]], fps: Fraction, *, crf: int = 20) -> bytes:
    """Encode RGB frames [H, W, 3] of one even size to H.264 MP4 bytes (yuv420p, constant frame rate, a key frame every
    second).

    Raises `ValueError` if there is no frame, or if a width or height is odd.
    """
    encoder = Encoder(fps, Encoding(crf))
    for image in images:
        height, width = image.shape[:2]
        if height % 2 or width % 2:
            raise ValueError(f"H.264 needs even sizes, got {width}x{height}")
        encoder.push(VideoFrame.from_ndarray(image, format="rgb24").reformat(format="yuv420p"))
    return encoder.finish()


def check_encoder(name: str) -> None:
    """Test an encoder by encoding a few frames. Raises `ValueError` if it does not work on this computer."""
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
        raise ValueError(f"{name}: the hardware or its driver is missing ({error})") from error
    if count != 8:
        raise ValueError(f"{name}: only {count} of 8 encoded frames could be decoded")


def working_encoders() -> list[str]:
    """Return the names of all encoders that work on this computer, the software one first."""
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
