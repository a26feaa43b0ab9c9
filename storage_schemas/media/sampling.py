"""A few pictures from all over a video, without decoding what lies between."""

from dataclasses import dataclass
from fractions import Fraction
from typing import cast

import av.error
import numpy as np
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray

from opendimo.storage_schemas.media import image_sequence
from opendimo.storage_schemas.media.opening import Source, opened

Gray = NDArray[np.uint8]  # [H, W]


@dataclass(frozen=True)
class Survey:
    """`aspect`: width of an upright pixel over its height; `lumas` [H, W]: upright key frames in full size."""

    aspect: Fraction
    lumas: list[Gray]


def survey(source: Source, count: int, rotation: int) -> Survey:
    """Up to `count` key frames spread over a video, and the shape of its pixels. `rotation` is a clockwise turn.

    Fewer frames where it has fewer key frames or where reading at other places fails, none of a sequence of pictures.
    Raises `ValueError` where the file is no video.
    """
    if image_sequence.is_pattern(source):
        return Survey(Fraction(1), [])
    seen: dict[int, Gray] = {}
    with opened(source) as (container, stream):
        stream.codec_context.thread_count = 1  # with more the first picture comes later
        aspect = stream.sample_aspect_ratio or Fraction(1)
        start, length = stream.start_time or 0, _length(container, stream)
        for k in range(count):
            try:
                frame = _frame_at(container, stream, start + int(length * (k + 0.5) / count), seen)
            except av.error.FFmpegError:
                continue
            if frame is not None:
                luma = np.rot90(cast(Gray, frame.to_ndarray(format="gray")), -rotation // 90)
                seen[frame.pts or 0] = np.ascontiguousarray(luma)
    return Survey(1 / aspect if rotation in (90, 270) else aspect, list(seen.values()))


def _frame_at(container: InputContainer, stream: VideoStream, time: int, seen: dict[int, Gray]) -> VideoFrame | None:
    """The key frame before `time`; None where it was seen already."""
    container.seek(time, stream=stream)
    for packet in container.demux(stream):
        if packet.pts in seen:
            return None
        for frame in packet.decode():
            return None if frame.pts in seen else cast(VideoFrame, frame)
    return None


def _length(container: InputContainer, stream: VideoStream) -> int:
    """In units of the stream's time base; 0 where unknown."""
    if stream.duration:
        return stream.duration
    if container.duration and stream.time_base:
        return int(container.duration / av.time_base / stream.time_base)
    return 0
