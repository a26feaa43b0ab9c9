"""Sample a few key frames spread over a video, without decoding the frames in between."""

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
from opendimo.storage_schemas.media.opening import Source, opened, pixel_aspect, stated_seconds
from opendimo.storage_schemas.media.orientation import upright

Gray = NDArray[np.uint8]  # [H, W]


@dataclass(frozen=True)
class Survey:
    """Sampled key frames of a video.

    `aspect` is the width of an upright pixel divided by its height. `lumas` are the luma planes [H, W] of upright key
    frames in full size.
    """

    aspect: Fraction
    lumas: list[Gray]


def survey(source: Source, count: int, rotation: int, mirrored: bool = False) -> Survey:
    """Return up to `count` key frames spread over a video, and its pixel aspect ratio.

    `rotation` (clockwise, degrees) makes frames upright, after mirroring them left to right if `mirrored`.
    Returns fewer frames if the video has fewer key frames or if reading at some position fails, and none for an image
    sequence. Raises `ValueError` if the file is not a video.
    """
    if image_sequence.is_pattern(source):
        return Survey(Fraction(1), [])
    luma_at: dict[int, Gray] = {}  # by presentation time stamp
    with opened(source) as (container, stream):
        stream.codec_context.thread_count = 1  # with more threads the first frame takes longer
        aspect = pixel_aspect(stream)
        start, seconds = stream.start_time or 0, stated_seconds(container, stream) or 0
        length = seconds / stream.time_base if stream.time_base else 0  # in units of the time base
        for k in range(count):
            try:
                frame = _frame_at(container, stream, start + int(length * (k + 0.5) / count), luma_at)
            except av.error.FFmpegError:
                continue
            if frame is not None:
                luma = cast(Gray, frame.to_ndarray(format="gray"))
                luma_at[frame.pts or 0] = upright(luma, rotation, mirrored)
    return Survey(1 / aspect if rotation in (90, 270) else aspect, list(luma_at.values()))


def _frame_at(container: InputContainer, stream: VideoStream, time: int, known: dict[int, Gray]) -> VideoFrame | None:
    """Return the key frame before `time`; None if it is in `known` already."""
    container.seek(time, stream=stream)
    for packet in container.demux(stream):
        if packet.pts in known:
            return None
        for frame in packet.decode():
            return None if frame.pts in known else cast(VideoFrame, frame)
    return None
