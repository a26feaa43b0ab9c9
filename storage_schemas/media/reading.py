"""From a file to upright pictures of one size and rate, as an encoder takes them; nothing becomes RGB on the way."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import cast

import av
import av.error
import numpy as np
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation, VideoReformatter
from av.video.stream import VideoStream
from numpy.typing import NDArray

from opendimo.storage_schemas.media import image_sequence
from opendimo.storage_schemas.media.clock import constant_rate
from opendimo.storage_schemas.media.filters import DEINTERLACE, TURNS, Chain
from opendimo.storage_schemas.media.opening import Source, opened

Image = NDArray[np.uint8]
Size = tuple[int, int]  # width, height
Region = tuple[int, int, int, int]  # x0 y0 x1 y1
FULL_RANGE = 2
CUT_SHORT = 0.05  # share of the stated duration that may be missing at the end, and at least a second


@dataclass(frozen=True)
class Wanted:
    """How pictures are wanted: `stated`: upright size of the stored ones, else it is an error; `rotation`: clockwise
    turn that makes them upright; `region` of the upright picture; `size` that it is scaled to; `fps`: constant rate, by
    the file's times; None: the frames as they are stored."""

    stated: Size
    size: Size
    rotation: int = 0
    region: Region | None = None
    fps: Fraction | None = None


def pictures(source: Source, wanted: Wanted) -> Iterator[VideoFrame]:
    """Pictures (yuv420p, 8 bits) in display order, one pass, constant memory.

    Raises `ValueError` where the file is not a readable video, has pictures of another size, or breaks off.
    """
    stored = _checked(stored_frames(source), wanted)
    if wanted.fps is not None:
        stored = constant_rate(((frame, frame.time) for frame in stored), wanted.fps)
    yield from _fitted(stored, wanted)


def stored_frames(source: Source) -> Iterator[VideoFrame]:
    """All frames as they are stored, not turned; interlaced ones deinterlaced."""
    if image_sequence.is_pattern(source):
        for image in image_sequence.frames(cast(str | Path, source)):
            yield VideoFrame.from_ndarray(image, format="rgb24")
        return
    with opened(source) as (container, stream):
        yield from _progressive(_decoded(container, stream))


def to_rgb(frame: VideoFrame, scaler: VideoReformatter | None = None) -> Image:
    """A frame -> [H, W, 3] RGB. `scaler`: one for all frames of a video saves the making of another for each."""
    return cast(Image, (scaler or VideoReformatter()).reformat(frame, format="rgb24").to_ndarray())


def to_luma(frame: VideoFrame) -> Image:
    """A picture (yuv420p) -> its light [H, W], as it is coded."""
    plane = frame.planes[0]
    return np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)[: frame.height, : frame.width]


class Shrinker:
    """Scales pictures to one size, as [h, w, 3] BGR."""

    def __init__(self, size: Size) -> None:
        self._size = size
        self._scaler = VideoReformatter()

    def __call__(self, frame: VideoFrame) -> Image:
        small = self._scaler.reformat(frame, *self._size, "bgr24", interpolation=Interpolation.AREA, threads=1)
        return cast(Image, small.to_ndarray())


def _decoded(container: InputContainer, stream: VideoStream) -> Iterator[VideoFrame]:
    """Raises `ValueError` where decoding fails in the middle, or ends well before the stated duration."""
    count, end, start = 0, None, None
    try:
        for frame in container.decode(stream):
            count += 1
            if frame.time is not None:
                start = frame.time if start is None else start
                held = float((frame.duration or 0) * (frame.time_base or 0))  # the last picture may be held long
                end = max(end or 0.0, frame.time + held)
            yield frame
    except av.error.FFmpegError as error:
        raise ValueError(f"it breaks off after {count} frames: {error.strerror or error}") from error
    stated = _duration(container, stream)
    if stated is not None and end is not None and start is not None:
        missing = stated - (end - start)
        if missing > max(1.0, CUT_SHORT * stated):
            seen = end - start
            raise ValueError(f"cut short: pictures for {seen:.1f} s of the {stated:.1f} s it states; fetch it again")


def _duration(container: InputContainer, stream: VideoStream) -> float | None:
    """Seconds of pictures by the container's word, where it speaks of pictures."""
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    if container.duration and not container.streams.audio:
        return container.duration / av.time_base
    return None


def _progressive(frames: Iterable[VideoFrame]) -> Iterator[VideoFrame]:
    """From the first interlaced frame on all go through the deinterlacer, which leaves progressive ones alone."""
    chain: Chain | None = None
    for frame in frames:
        if chain is None and frame.interlaced_frame:
            chain = Chain(DEINTERLACE)
        if chain is None:
            yield frame
        else:
            yield from chain.push(frame)
    if chain is not None:
        yield from chain.flush()


def _checked(frames: Iterable[VideoFrame], wanted: Wanted) -> Iterator[VideoFrame]:
    width, height = _turned(wanted.stated, wanted.rotation)
    for number, frame in enumerate(frames):
        if (frame.width, frame.height) != (width, height):
            seen = "{}x{}".format(*_turned((frame.width, frame.height), wanted.rotation))
            said = "{}x{}".format(*wanted.stated)
            raise ValueError(f"frame {number} is {seen}, the source says {said}: ingest it again")
        yield frame


def _fitted(frames: Iterable[VideoFrame], wanted: Wanted) -> Iterator[VideoFrame]:
    """Cut, scaled, turned: scaled before turned, because a smaller picture turns faster."""
    cut = Chain(_crop(wanted))
    scaled = _turned(wanted.size, wanted.rotation)
    scaler, upright = VideoReformatter(), Chain(TURNS[wanted.rotation])
    before: tuple[VideoFrame, VideoFrame] | None = None
    for frame in frames:
        if before is not None and before[0] is frame:  # repeated, to fill a gap
            yield before[1]
            continue
        for part in cut.push(frame):
            range_ = FULL_RANGE if part.format.name.startswith("yuvj") else part.color_range
            small = scaler.reformat(
                part, *scaled, "yuv420p", interpolation=Interpolation.AREA, threads=1,
                src_color_range=range_, dst_color_range=range_,
            )  # fmt: skip
            for picture in upright.push(small):
                before = frame, picture
                yield picture


def _crop(wanted: Wanted) -> list[tuple[str, str]]:
    if wanted.region is None or wanted.region == (0, 0, *wanted.stated):
        return []
    (width, height), (x0, y0, x1, y1) = wanted.stated, wanted.region
    match wanted.rotation:  # where the region lies in the stored picture
        case 90:
            x0, y0, x1, y1 = y0, width - x1, y1, width - x0
        case 180:
            x0, y0, x1, y1 = width - x1, height - y1, width - x0, height - y0
        case 270:
            x0, y0, x1, y1 = height - y1, x0, height - y0, x1
    return [("crop", f"{x1 - x0}:{y1 - y0}:{x0}:{y0}")]


def _turned(size: Size, rotation: int) -> Size:
    return (size[1], size[0]) if rotation in (90, 270) else size
