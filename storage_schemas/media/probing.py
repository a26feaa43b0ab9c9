"""Probe a video file: read properties from its container and its first frame."""

from dataclasses import dataclass
from fractions import Fraction

from opendimo.storage_schemas.media.colour import primaries_name, range_name, transfer_name
from opendimo.storage_schemas.media.opening import Source, decoded, opened, pixel_aspect
from opendimo.storage_schemas.media.orientation import orientation, turned

MIN_FPS, MAX_FPS = Fraction(1, 100), 1000
NO_RATE = "re-encode it with a constant frame rate"


@dataclass(frozen=True)
class VideoInfo:
    """Properties of a video file.

    `width` and `height` are those of upright frames. `rotation` is the clockwise rotation (degrees) that makes stored
    frames upright, after mirroring them left to right if `mirrored`. `fps` is the mean frame rate. `frames` is None if
    the container does not state it. `aspect` is the width of an upright pixel divided by its height. `transfer`,
    `primaries` and `range` are the colour tags of the first frame, named as in `colour.py`.
    """

    container: str
    codec: str
    width: int
    height: int
    rotation: int
    fps: Fraction
    frames: int | None
    aspect: Fraction = Fraction(1)
    mirrored: bool = False
    transfer: str = "unspecified"
    primaries: str = "unspecified"
    range: str = "unspecified"


def probe(source: Source) -> VideoInfo:
    """Read the properties of a video and decode its first frame.

    Raises `ValueError` with a readable message if the file is empty, not a video, without a video stream, or corrupt.
    """
    with opened(source) as (container, stream):
        first = next(decoded(container, stream), None)
        if first is None:
            raise ValueError("no frame can be decoded: the file is corrupt or contains no frames")
        fps = frame_rate(stream.average_rate, stream.guessed_rate)
        rotation, mirrored = orientation(first)
        width, height = turned((first.width, first.height), rotation)
        aspect = pixel_aspect(stream)
        return VideoInfo(
            container.format.name,
            stream.codec_context.name,
            width,
            height,
            rotation,
            fps,
            stream.frames or None,
            1 / aspect if rotation in (90, 270) else aspect,
            mirrored,
            transfer_name(first),
            primaries_name(first),
            range_name(first),
        )


def frame_rate(*stated: Fraction | None) -> Fraction:
    """Return the first rate that is stated, in frames per second, with a denominator of at most 10,000.

    Raises `ValueError` if there is none, or if it is outside `MIN_FPS` to `MAX_FPS`.
    """
    fps = next(filter(None, stated), None)
    if fps is None:
        raise ValueError(f"the video has no frame rate: {NO_RATE}")
    if not MIN_FPS <= fps <= MAX_FPS:
        raise ValueError(f"the video states {float(fps):g} frames per second: {NO_RATE}")
    return fps.limit_denominator(10_000)
