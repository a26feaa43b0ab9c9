"""Opening a video file that nobody vouches for."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import av
import av.container
import av.error
from av.stream import Disposition
from av.video.stream import VideoStream

Source = bytes | str | Path

VIDEO = "mov,matroska,avi,mpegts,mpeg,flv,asf,ogg,gif,mxf,ivf,dv,nut,yuv4mpegpipe,h264,hevc,mpegvideo,m4v,rm,wtv"
AUDIO = "mp3,wav,flac,aac,amr,aiff,caf,w64"  # opened only to say that they are no video
# no playlists and no lists of files: what is named in them may lie anywhere
OPTIONS = {"format_whitelist": f"{VIDEO},{AUDIO}", "protocol_whitelist": "file"}
MAX_PIXELS = 1 << 26
"""Pixels of the largest picture that is decoded (8192 x 8192)."""
DECODER_THREADS = 2
"""Threads of a decoder; each holds a frame or two, so their number bounds memory."""


@contextmanager
def opened(source: Source) -> Iterator[tuple[av.container.InputContainer, VideoStream]]:
    """A video file with its stream of moving pictures; whatever goes wrong inside becomes a `ValueError` for people."""
    if not isinstance(source, bytes) and Path(source).stat().st_size == 0:
        raise ValueError("the file is empty")
    try:
        file = io.BytesIO(source) if isinstance(source, bytes) else f"file:{source}"
        with av.open(file, "r", options=OPTIONS) as container:
            yield container, _stream(container)
    except av.error.FFmpegError as error:
        raise ValueError(f"not a readable video: {error.strerror or error}") from error


def _stream(container: av.container.InputContainer) -> VideoStream:
    moving = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    if not moving:
        cover = " but a cover picture" if container.streams.video else ""
        audio = ", only audio" if container.streams.audio else ""
        raise ValueError(f"the file has no video stream{cover}{audio}")
    stream = moving[0]
    if stream.width * stream.height > MAX_PIXELS:
        raise ValueError(f"pictures of {stream.width}x{stream.height} are more than {MAX_PIXELS} pixels")
    stream.thread_type = "AUTO"
    stream.codec_context.thread_count = DECODER_THREADS
    return stream
