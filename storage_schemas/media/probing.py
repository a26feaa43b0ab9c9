"""Probe a video file: read properties from its container and its first frame."""

from dataclasses import dataclass
from fractions import Fraction

from av.video.frame import VideoFrame

from opendimo.storage_schemas.media.opening import Source, opened

MAX_FPS = 1000
NO_RATE = "re-encode it with a constant frame rate"


@dataclass(frozen=True)
class VideoInfo:
    """Properties of a video file.

    `width` and `height` are those of upright frames. `rotation` is the clockwise rotation (degrees) that makes stored
    frames upright. `fps` is the mean frame rate. `frames` is None if the container does not state it. `aspect` is the
    width of an upright pixel divided by its height.
    """

    container: str
    codec: str
    width: int
    height: int
    rotation: int
    fps: Fraction
    frames: int | None
    aspect: Fraction = Fraction(1)


def probe(source: Source) -> VideoInfo:
    """Read the properties of a video and decode its first frame.

    Raises `ValueError` with a readable message if the file is empty, not a video, without a video stream, or corrupt.
    """
    with opened(source) as (container, stream):
        first = next(container.decode(stream), None)
        if first is None:
            raise ValueError("no frame can be decoded: the file is corrupt or contains no frames")
        fps = stream.average_rate or stream.guessed_rate
        if not fps:
            raise ValueError(f"the video has no frame rate: {NO_RATE}")
        if not 0 < fps <= MAX_FPS:
            raise ValueError(f"the video states {float(fps):g} frames per second: {NO_RATE}")
        rotation = turn(first)
        width, height = first.width, first.height
        aspect = stream.sample_aspect_ratio or Fraction(1)
        if rotation in (90, 270):
            width, height, aspect = height, width, 1 / aspect
        return VideoInfo(
            container.format.name,
            stream.codec_context.name,
            width,
            height,
            rotation,
            fps.limit_denominator(10_000),
            stream.frames or None,
            aspect,
        )


def turn(frame: VideoFrame) -> int:
    """Return the clockwise rotation that makes a stored frame upright: 0, 90, 180 or 270 degrees."""
    return round(-frame.rotation / 90) % 4 * 90
