"""Open untrusted video files safely."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import av
import av.container
import av.error
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

Source = bytes | str | Path

VIDEO = "mov,matroska,avi,mpegts,mpeg,flv,asf,ogg,gif,mxf,ivf,dv,nut,yuv4mpegpipe,h264,hevc,mpegvideo,m4v,rm,wtv"
AUDIO = "mp3,wav,flac,aac,amr,aiff,caf,w64"  # opened only to report that they have no video
# playlists and lists of files are excluded, because they may refer to any other file
OPTIONS = {"format_whitelist": f"{VIDEO},{AUDIO}", "protocol_whitelist": "file"}
MAX_PIXELS = 1 << 26
"""Maximum number of pixels of a frame (8192 x 8192)."""
COUNT_FROM_ZERO = ("matroska,webm", "asf", "nut")
"""Formats whose stated duration begins at time zero, not at the first frame."""
MAX_ASPECT = Fraction(16)
COLOUR_TAGS = {"color_range": 0, "colorspace": 2, "color_primaries": 2, "color_trc": 2}
"""Names of the colour tags, and their values if they are not specified."""
DECODER_THREADS = 2
"""Number of threads of a decoder. Each thread keeps one or two frames in memory, so this limits memory use."""


@contextmanager
def opened(source: Source) -> Iterator[tuple[av.container.InputContainer, VideoStream]]:
    """Open a video file and yield its container and video stream.

    Raises `ValueError` with a readable message if the file is not a readable video; this includes errors of FFmpeg that
    occur inside the `with` block.
    """
    if not isinstance(source, bytes) and Path(source).stat().st_size == 0:
        raise ValueError("the file is empty")
    try:
        file = io.BytesIO(source) if isinstance(source, bytes) else f"file:{source}"
        with av.open(file, "r", options=OPTIONS, metadata_errors="replace") as container:
            yield container, _stream(container)
    except av.error.FFmpegError as error:
        raise ValueError(f"not a readable video: {error.strerror or error}") from error


def decoded(container: av.container.InputContainer, stream: VideoStream) -> Iterator[VideoFrame]:
    """Yield the frames of the video. Where the coded stream has no colour tags, frames have those of the container."""
    context = stream.codec_context
    stated = {name: int(getattr(context, name)) for name in COLOUR_TAGS}  # decoding replaces them
    missing = [(name, value) for name, value in stated.items() if value != COLOUR_TAGS[name]]
    for frame in container.decode(stream):
        for name, value in missing:
            if getattr(frame, name) == COLOUR_TAGS[name]:
                setattr(frame, name, value)
        yield frame


def pixel_aspect(stream: VideoStream) -> Fraction:
    """Return the width of a stored pixel divided by its height, 1 if it is not stated.

    Raises `ValueError` if the picture would be stretched more than `MAX_ASPECT` times.
    """
    aspect = stream.sample_aspect_ratio or Fraction(1)
    if not 1 / MAX_ASPECT <= aspect <= MAX_ASPECT:
        raise ValueError(
            f"pixels of {aspect.numerator}:{aspect.denominator} (width:height): remux it with square pixels"
        )
    return aspect


def stated_seconds(container: av.container.InputContainer, stream: VideoStream) -> float | None:
    """Return the stated duration of the video from its first frame on, in seconds; None if it is unknown."""
    start = (container.start_time or 0) / av.time_base
    if stream.duration and stream.time_base:
        duration = float(stream.duration * stream.time_base)
    elif container.duration:
        duration = container.duration / av.time_base
    else:
        return None
    return duration - max(0.0, start) if container.format.name in COUNT_FROM_ZERO else duration


def _stream(container: av.container.InputContainer) -> VideoStream:
    streams = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    if not streams:
        cover = " except a cover image" if container.streams.video else ""
        audio = ", only audio" if container.streams.audio else ""
        raise ValueError(f"the file has no video stream{cover}{audio}")
    stream = streams[0]
    if stream.width * stream.height > MAX_PIXELS:
        raise ValueError(f"frames of {stream.width}x{stream.height} have more than {MAX_PIXELS} pixels")
    stream.thread_type = "AUTO"
    stream.codec_context.thread_count = DECODER_THREADS
    return stream
