"""Video bytes to frames and back: the one place where a codec is named.

Frames are RGB uint8 arrays [H, W, 3]; stored clips are H.264 in MP4 at a constant
frame rate, with a key frame every second so that a window can be read without decoding the whole clip.
"""

import io
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain, islice
from pathlib import Path
from typing import cast

import av
import av.container
import av.error
import numpy as np
from numpy.typing import NDArray

Frame = NDArray[np.uint8]
Source = bytes | str | Path


@dataclass(frozen=True)
class VideoInfo:
    """What the container says. `width`, `height` are upright; `rotation` is the clockwise turn (degrees) that
    makes stored frames upright; `frames` is None where the container does not say."""

    container: str
    codec: str
    width: int
    height: int
    rotation: int
    fps: Fraction
    frames: int | None


def probe(source: Source) -> VideoInfo:
    """Read a video's facts and decode its first frame.

    Raises `ValueError` with a text for people where it is empty, no video, without a video stream, or corrupt.
    """
    with _opened(source) as container:
        stream = container.streams.video[0]
        first = next(container.decode(stream), None)
        if first is None:
            raise ValueError("no frame can be decoded: the file is corrupt or holds no picture")
        rotation = -int(first.rotation) % 360
        width, height = first.width, first.height
        if rotation in (90, 270):
            width, height = height, width
        fps = stream.average_rate or stream.guessed_rate
        if not fps:
            raise ValueError("the video has no frame rate: re-encode it with a constant frame rate")
        return VideoInfo(
            container.format.name,
            stream.codec_context.name,
            width,
            height,
            rotation,
            fps,
            stream.frames or None,
        )


def frames(source: Source, *, rotation: int = 0) -> Iterator[Frame]:
    """All frames in display order, one pass, constant memory. `rotation` is a clockwise turn in degrees.

    Raises `ValueError` where the file is not a readable video or breaks off in the middle.
    """
    turns = -rotation // 90  # np.rot90 turns counter-clockwise
    with _opened(source) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        for frame in container.decode(stream):
            image = cast(Frame, frame.to_ndarray(format="rgb24"))
            yield np.ascontiguousarray(np.rot90(image, turns)) if turns else image


def decode(
    source: Source,
    *,
    start: int = 0,
    stop: int | None = None,
    step: int = 1,
    size: tuple[int, int] | None = None,
    rotation: int = 0,
) -> Frame:
    """Frames `start, start + step, ...` below `stop` -> uint8 [T, H, W, 3], resized to `size` (width, height).

    Raises `ValueError` where the video ends before `stop`.
    """
    chosen = list(islice(frames(source, rotation=rotation), start, stop, step))
    wanted = None if stop is None else len(range(start, stop, step))
    if not chosen or (wanted is not None and len(chosen) < wanted):
        raise ValueError(f"the video ends too early: asked for frames [{start}, {stop}), got {len(chosen)}")
    if size is None:
        return np.stack(chosen)
    return np.stack([resize(image, size) for image in chosen])


def resize(image: Frame, size: tuple[int, int]) -> Frame:
    """`image` [H, W, 3] resized to `size` (width, height); area averaging where it shrinks."""
    import cv2

    if (image.shape[1], image.shape[0]) == size:
        return image
    shrinks = size[0] < image.shape[1]
    resized = cv2.resize(image, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    return cast(Frame, resized)


def centre_crop(frames: Frame, width: int, height: int) -> Frame:
    """[T, H, W, 3] -> [T, height, width, 3]: the largest centred cut of that shape, resized."""
    _, h, w, _ = frames.shape
    cut_w, cut_h = min(w, round(h * width / height)), min(h, round(w * height / width))
    x, y = (w - cut_w) // 2, (h - cut_h) // 2
    return np.stack([resize(frame, (width, height)) for frame in frames[:, y : y + cut_h, x : x + cut_w]])


def encode(images: Iterable[Frame], fps: Fraction, *, crf: int = 20) -> bytes:
    """Frames [H, W, 3] of one even size -> H.264 MP4 bytes (yuv420p, constant frame rate, a key frame a second).

    Raises `ValueError` where there is no frame or a size is odd.
    """
    rest = iter(images)
    first = next(rest, None)
    if first is None:
        raise ValueError("no frames to encode")
    height, width = first.shape[:2]
    if height % 2 or width % 2:
        raise ValueError(f"H.264 needs even sizes, got {width}x{height}")
    options = {"crf": str(crf), "preset": "veryfast", "x264-params": "cpu-independent=1"}
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=fps, options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.gop_size = max(1, round(fps))
        # with its defaults x264 gives other bytes for the same frames every few times
        stream.codec_context.thread_count = 1
        for image in chain([first], rest):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format="yuv420p")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return buffer.getvalue()


@contextmanager
def _opened(source: Source) -> Iterator[av.container.InputContainer]:
    """Open a video for reading; whatever PyAV raises becomes a `ValueError` for people."""
    if not isinstance(source, bytes) and Path(source).stat().st_size == 0:
        raise ValueError("the file is empty")
    try:
        with av.open(io.BytesIO(source) if isinstance(source, bytes) else str(source), "r") as container:
            if not container.streams.video:
                raise ValueError("the file has no video stream")
            yield container
    except av.error.FFmpegError as error:
        raise ValueError(f"not a readable video: {error.strerror or error}") from error
