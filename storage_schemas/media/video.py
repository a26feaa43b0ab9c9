"""Decode video bytes to frames and encode frames to video; the public interface of this package.

Frames are RGB uint8 arrays [H, W, 3]; pictures are the frame objects that codecs process. Stored clips are H.264 in MP4
at a constant frame rate, with a key frame every second so that a window can be read without decoding the whole clip.
"""

from collections.abc import Iterator
from fractions import Fraction
from itertools import islice
from typing import cast

import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from opendimo.storage_schemas.media.copying import Copyable, copyable
from opendimo.storage_schemas.media.opening import Source, decoded, opened
from opendimo.storage_schemas.media.orientation import upright
from opendimo.storage_schemas.media.probing import VideoInfo, probe
from opendimo.storage_schemas.media.reading import (
    Part,
    Shrinker,
    Wanted,
    fitted,
    of_one_size,
    parts,
    pictures,
    stored_frames,
    to_luma,
    to_rgb,
)
from opendimo.storage_schemas.media.sampling import survey
from opendimo.storage_schemas.media.writing import Encoder, Encoding, check_encoder, encode, working_encoders

Frame = NDArray[np.uint8]
Picture = VideoFrame
"""A frame in the format of the codec library."""

__all__ = [
    "Copyable",
    "Encoder",
    "Encoding",
    "Frame",
    "Part",
    "Picture",
    "Shrinker",
    "Source",
    "VideoInfo",
    "Wanted",
    "centre_crop",
    "check_encoder",
    "copyable",
    "decode",
    "encode",
    "fitted",
    "frames",
    "parts",
    "pictures",
    "probe",
    "resize",
    "survey",
    "to_luma",
    "to_rgb",
    "window",
    "working_encoders",
]


def frames(source: Source, *, rotation: int = 0, mirrored: bool = False) -> Iterator[Frame]:
    """Return an iterator over all frames in display order, with constant memory.

    `rotation` (clockwise, degrees) makes frames upright, after mirroring them left to right if `mirrored`.
    Iterating raises `ValueError` if the file is not a readable video, is truncated, or the size of its frames changes.
    """
    scaler = VideoReformatter()
    return (upright(to_rgb(frame, scaler), rotation, mirrored) for frame in of_one_size(stored_frames(source)))


def decode(
    source: Source,
    *,
    start: int = 0,
    stop: int | None = None,
    step: int = 1,
    size: tuple[int, int] | None = None,
    rotation: int = 0,
    mirrored: bool = False,
) -> Frame:
    """Decode frames `start, start + step, ...` below `stop` to uint8 [T, H, W, 3], resized to `size` (width, height).

    `rotation` and `mirrored` are those of `frames`.
    Raises `ValueError` if the video ends before `stop`, or if the size of its frames changes.
    """
    scaler = VideoReformatter()
    # only the chosen frames are converted to RGB
    stored = islice(of_one_size(stored_frames(source)), start, stop, step)
    chosen = [upright(to_rgb(frame, scaler), rotation, mirrored) for frame in stored]
    expected = None if stop is None else len(range(start, stop, step))
    if not chosen or (expected is not None and len(chosen) < expected):
        raise ValueError(f"the video ends too early: requested frames [{start}, {stop}), got {len(chosen)}")
    if size is None:
        return np.stack(chosen)
    return np.stack([resize(image, size) for image in chosen])


def window(clip: bytes, fps: Fraction, chosen: range) -> Iterator[Frame]:
    """Yield the chosen frames of a stored clip, from the key frame before the first of them, one in memory at a time.

    `fps`: its frame rate, which is constant. Iterating raises `ValueError` if the clip does not have all these frames.
    """
    scaler, count = VideoReformatter(), 0
    with opened(clip) as (container, stream):
        tick, start = stream.time_base or Fraction(1), stream.start_time or 0
        if chosen.start > 0:
            container.seek(start + round(chosen.start / fps / tick), stream=stream)
        for frame in decoded(container, stream):
            number = round(((frame.pts or 0) - start) * tick * fps)
            if number in chosen:
                count += 1
                yield to_rgb(frame, scaler)
            if number >= chosen[-1]:
                break
    if count < len(chosen):
        raise ValueError(f"of frames {chosen.start} to {chosen[-1]} the clip has {count} instead of {len(chosen)}")


def resize(image: Frame, size: tuple[int, int]) -> Frame:
    """Resize `image` [H, W, 3] to `size` (width, height), with area averaging if it shrinks."""
    import cv2

    if (image.shape[1], image.shape[0]) == size:
        return image
    shrinks = size[0] < image.shape[1]
    resized = cv2.resize(image, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    return cast(Frame, resized)


def centre_crop(frames: Frame, width: int, height: int) -> Frame:
    """Crop [T, H, W, 3] to the largest centred region with the aspect ratio width : height, and resize it to
    [T, height, width, 3]."""
    _, h, w, _ = frames.shape
    cut_w, cut_h = min(w, round(h * width / height)), min(h, round(w * height / width))
    x, y = (w - cut_w) // 2, (h - cut_h) // 2
    return np.stack([resize(frame, (width, height)) for frame in frames[:, y : y + cut_h, x : x + cut_w]])
