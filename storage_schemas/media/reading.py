"""Read a file as upright YUV frames of one size and rate, ready for an encoder, without conversion to RGB."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain, groupby, islice
from pathlib import Path
from typing import cast

import av
import av.error
import numpy as np
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter
from av.video.stream import VideoStream
from numpy.typing import NDArray

from opendimo.storage_schemas.media import image_sequence
from opendimo.storage_schemas.media.colour import RGB_MATRIX, UNSPECIFIED, Colours
from opendimo.storage_schemas.media.constant_rate import constant_rate
from opendimo.storage_schemas.media.filters import DEINTERLACE, Chain
from opendimo.storage_schemas.media.opening import Source, decoded, opened, stated_seconds
from opendimo.storage_schemas.media.orientation import filters, turned
from opendimo.storage_schemas.media.sdr import EXACT, to_sdr, to_sdr_picture

Image = NDArray[np.uint8]
Size = tuple[int, int]  # width, height
Region = tuple[int, int, int, int]  # x0 y0 x1 y1
CUT_SHORT = 0.05  # share of the stated duration that may be missing at the end; 1 s may always be missing


@dataclass(frozen=True)
class Wanted:
    """The requested format of frames.

    `stated` is the expected upright size of the stored frames; another size is an error. `size` is the size to scale
    to. `rotation` is the clockwise rotation (degrees) that makes stored frames upright, after mirroring them left to
    right if `mirrored`. `region` is the region of the upright frame to keep. `fps` is the constant frame rate,
    converted by the time stamps of the file; None keeps the frames as stored.
    """

    stated: Size
    size: Size
    rotation: int = 0
    region: Region | None = None
    fps: Fraction | None = None
    mirrored: bool = False


@dataclass(frozen=True)
class Part:
    """Consecutive frames of one size: the number of the first one, their size (width, height) and the frames, as
    stored."""

    first: int
    size: Size
    frames: Iterator[VideoFrame]


def parts(source: Source, fps: Fraction | None = None) -> Iterator[Part]:
    """Yield the parts of a video, at the rate `fps` (None: as stored): one begins where the size of the frames changes.

    A part must be read before the next one is taken. Iterating raises `ValueError` if the file is not a readable
    video or is truncated.
    """
    for size, numbered in groupby(enumerate(_at_rate(source, fps)), key=lambda item: (item[1].width, item[1].height)):
        yield _part(size, numbered)


def pictures(source: Source, wanted: Wanted, span: range | None = None) -> Iterator[VideoFrame]:
    """Yield the frames of `span` (default: all) as `fitted` gives them, in one pass with constant memory.

    Raises `ValueError` if the file is not a readable video, has frames of another size, or is truncated.
    """
    stored = _at_rate(source, wanted.fps)
    if span is not None:
        stored = islice(stored, span.start, span.stop)
    yield from fitted(_checked(stored, wanted), wanted)


def stored_frames(source: Source) -> Iterator[VideoFrame]:
    """Yield all frames as stored, neither mirrored nor rotated; interlaced frames are deinterlaced."""
    if image_sequence.is_pattern(source):
        for image in image_sequence.frames(cast(str | Path, source)):
            yield VideoFrame.from_ndarray(image, format="rgb24")
        return
    with opened(source) as (container, stream):
        yield from _progressive(_complete(container, stream))


def of_one_size(frames: Iterable[VideoFrame]) -> Iterator[VideoFrame]:
    """Yield frames. Raises `ValueError` at the first one that has another size than those before."""
    size: Size | None = None
    for number, frame in enumerate(frames):
        now = frame.width, frame.height
        if size is not None and size != now:
            change = f"frame {number} is {now[0]}x{now[1]}, those before are {size[0]}x{size[1]}"
            raise ValueError(f"{change}: re-encode the video to one size")
        size = now
        yield frame


def to_rgb(frame: VideoFrame, scaler: VideoReformatter | None = None) -> Image:
    """Convert a frame to RGB [H, W, 3] in SDR. Pass one `scaler` for all frames of a video to avoid creating one per
    frame."""
    if not Colours.of(frame).is_sdr:
        return to_sdr(frame).image
    return cast(Image, (scaler or VideoReformatter()).reformat(frame, format="rgb24").to_ndarray())


def to_luma(frame: VideoFrame) -> Image:
    """Return the luma plane [H, W] of a yuv420p frame, as coded."""
    plane = frame.planes[0]
    return np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)[: frame.height, : frame.width]


class Shrinker:
    """Scale frames to one size and convert them to BGR [h, w, 3]."""

    def __init__(self, size: Size) -> None:
        self._size = size
        self._scaler = VideoReformatter()

    def __call__(self, frame: VideoFrame) -> Image:
        small = self._scaler.reformat(frame, *self._size, "bgr24", interpolation=Interpolation.AREA, threads=1)
        return cast(Image, small.to_ndarray())


def _part(size: Size, numbered: Iterator[tuple[int, VideoFrame]]) -> Part:
    first, frame = next(numbered)
    return Part(first, size, chain([frame], (following for _, following in numbered)))


def _at_rate(source: Source, fps: Fraction | None) -> Iterator[VideoFrame]:
    stored = stored_frames(source)
    return stored if fps is None else constant_rate(((frame, frame.time) for frame in stored), fps)


def _complete(container: InputContainer, stream: VideoStream) -> Iterator[VideoFrame]:
    """Yield decoded frames. Raises `ValueError` if decoding fails, or ends well before the stated duration."""
    count, end, start = 0, None, None
    try:
        for frame in decoded(container, stream):
            count += 1
            if frame.time is not None:
                start = frame.time if start is None else start
                duration = float((frame.duration or 0) * (frame.time_base or 0))  # the last frame may be long
                end = max(end or 0.0, frame.time + duration)
            yield frame
    except av.error.FFmpegError as error:
        raise ValueError(f"the video cannot be decoded after {count} frames: {error.strerror or error}") from error
    # with audio, only the duration of the longest stream is known
    stated = stated_seconds(container, stream) if stream.duration or not container.streams.audio else None
    if stated is not None and end is not None and start is not None:
        missing = stated - (end - start)
        if missing > max(1.0, CUT_SHORT * stated):
            raise ValueError(f"truncated: frames for {end - start:.1f} s of the stated {stated:.1f} s; fetch it again")


def _progressive(frames: Iterable[VideoFrame]) -> Iterator[VideoFrame]:
    """Deinterlace frames. From the first interlaced frame on, all frames pass through the deinterlacer, which does not
    change progressive frames. A new one begins where the size changes."""
    filtering: Chain | None = None
    size: Size | None = None
    for frame in frames:
        if filtering is not None and size != (frame.width, frame.height):
            yield from filtering.flush()
            filtering = None
        size = frame.width, frame.height
        if filtering is None and frame.interlaced_frame:
            filtering = Chain(DEINTERLACE)
        if filtering is None:
            yield frame
        else:
            yield from filtering.push(frame)
    if filtering is not None:
        yield from filtering.flush()


def _checked(frames: Iterable[VideoFrame], wanted: Wanted) -> Iterator[VideoFrame]:
    width, height = turned(wanted.stated, wanted.rotation)
    for number, frame in enumerate(frames):
        if (frame.width, frame.height) != (width, height):
            size = "{}x{}".format(*turned((frame.width, frame.height), wanted.rotation))
            stated = "{}x{}".format(*wanted.stated)
            raise ValueError(f"frame {number} is {size}, the source table says {stated}: ingest the source again")
        yield frame


def fitted(frames: Iterable[VideoFrame], wanted: Wanted) -> Iterator[VideoFrame]:
    """Crop, scale and turn stored frames of one size; yield them as yuv420p with 8 bits, in SDR.

    HDR and wide gamuts are converted to BT.709 (`sdr.py`); the `opaque` of such a frame is the share of its pixels that
    SDR cannot show. SDR keeps its values, range and tags. Scaling comes before turning, because a smaller frame is
    turned faster.
    """
    crop = Chain(_crop(wanted))
    scaled = turned(wanted.size, wanted.rotation)
    scaler, upright = VideoReformatter(), Chain(filters(wanted.rotation, wanted.mirrored))
    previous: tuple[VideoFrame, VideoFrame] | None = None  # input and output
    for frame in frames:
        if previous is not None and previous[0] is frame:  # repeated, to fill a gap
            yield previous[1]
            continue
        for cropped in crop.push(frame):
            for picture in upright.push(_scaled(cropped, scaled, scaler)):
                previous = frame, picture
                yield picture


def _scaled(frame: VideoFrame, size: Size, scaler: VideoReformatter) -> VideoFrame:
    """Return the frame as yuv420p in SDR, scaled to `size`."""
    colours = Colours.of(frame)
    if not colours.is_sdr:
        return to_sdr_picture(frame, size)
    options = {"interpolation": EXACT, "threads": 1}
    if frame.format.is_rgb:
        matrix, limited = Colorspace.ITU709, ColorRange.MPEG
        small = scaler.reformat(frame, *size, "yuv420p", dst_colorspace=matrix, dst_color_range=limited, **options)
        small.colorspace, small.color_range = matrix, limited
        return small
    if colours.matrix == RGB_MATRIX:  # a wrong tag: the pixels are YUV
        frame.colorspace = UNSPECIFIED
    range_ = ColorRange.JPEG if colours.full_range else frame.color_range
    return scaler.reformat(frame, *size, "yuv420p", src_color_range=range_, dst_color_range=range_, **options)


def _crop(wanted: Wanted) -> list[tuple[str, str]]:
    if wanted.region is None or wanted.region == (0, 0, *wanted.stated):
        return []
    (width, height), (x0, y0, x1, y1) = wanted.stated, wanted.region
    match wanted.rotation:  # convert the region to coordinates of the stored frame
        case 90:
            x0, y0, x1, y1 = y0, width - x1, y1, width - x0
        case 180:
            x0, y0, x1, y1 = width - x1, height - y1, width - x0, height - y0
        case 270:
            x0, y0, x1, y1 = height - y1, x0, height - y0, x1
    if wanted.mirrored:
        stored_width, _ = turned(wanted.stated, wanted.rotation)
        x0, x1 = stored_width - x1, stored_width - x0
    return [("crop", f"{x1 - x0}:{y1 - y0}:{x0}:{y0}")]
