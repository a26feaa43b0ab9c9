"""Display matrices: all eight cases, in MP4, MOV and MKV, as FFmpeg shows them."""

from fractions import Fraction
from itertools import product
from pathlib import Path

import av
import numpy as np
import pytest

from opendimo.storage_schemas.media import video

W, H = 64, 48
MATRICES = [m for m in product((-1, 0, 1), repeat=4) if abs(m[0] * m[3] - m[1] * m[2]) == 1 and np.abs(m).sum() == 2]
"""(a, b, c, d) of x' = a x + c y, y' = b x + d y: the eight ways to turn a picture."""


def picture() -> np.ndarray:
    """Return [H, W, 3] grey, with a different brightness in each part of the picture."""
    y, x = np.mgrid[:H, :W]
    return np.repeat((30 + 2 * x + 60 * (y > H // 3) + 20 * (x > y))[..., None], 3, 2).astype(np.uint8)


def shown(image: np.ndarray, matrix: tuple[int, ...]) -> np.ndarray:
    """Return the picture with each pixel moved by the matrix, and the result moved to begin at (0, 0)."""
    a, b, c, d = matrix
    y, x = np.mgrid[: image.shape[0], : image.shape[1]]
    to_x, to_y = a * x + c * y, b * x + d * y
    to_x, to_y = to_x - to_x.min(), to_y - to_y.min()
    out = np.empty((to_y.max() + 1, to_x.max() + 1, 3), np.uint8)
    out[to_y, to_x] = image
    return out


def with_matrix(path: Path, matrix: tuple[int, ...], image: np.ndarray, count: int = 3) -> Path:
    """Write a video of one picture whose container (by the suffix) has a display matrix."""
    first = path if path.suffix != ".mkv" else path.with_suffix(".mp4")
    with av.open(str(first), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"qp": "0"})
        stream.height, stream.width = image.shape[:2]
        stream.pix_fmt = "yuv420p"
        for k in range(count):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = k, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    a, b, c, d = matrix
    place = first.read_bytes().index(b"tkhd") + 44  # ISO/IEC 14496-12, 8.3.2: the matrix of a track, version 0
    numbers = np.array([a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30], ">i4").tobytes()
    content = first.read_bytes()
    assert content[place : place + 4] == (1 << 16).to_bytes(4, "big")
    first.write_bytes(content[:place] + numbers + content[place + 36 :])
    if first != path:
        with av.open(str(first)) as read, av.open(str(path), "w") as written:
            out = written.add_stream_from_template(read.streams.video[0])
            for packet in read.demux(video=0):
                if packet.size:
                    packet.stream = out
                    written.mux(packet)
    return path


@pytest.mark.parametrize("suffix", ["mp4", "mov", "mkv"])
@pytest.mark.parametrize("matrix", MATRICES)
def test_pictures_are_shown_as_the_display_matrix_says(tmp_path: Path, matrix: tuple[int, ...], suffix: str) -> None:
    path = with_matrix(tmp_path / f"a.{suffix}", matrix, picture())
    info, right = video.probe(path), shown(picture(), matrix)
    assert (info.height, info.width) == right.shape[:2]
    turns = {"rotation": info.rotation, "mirrored": info.mirrored}
    assert np.abs(next(video.frames(path, **turns)).astype(int) - right).max() <= 3
    assert np.abs(video.decode(path, stop=2, **turns)[1].astype(int) - right).max() <= 3
    wanted = video.Wanted((info.width, info.height), (info.width, info.height), **turns)
    assert np.abs(video.to_rgb(next(video.pictures(path, wanted))).astype(int) - right).max() <= 3
    cropped = video.Wanted((info.width, info.height), (20, 30), region=(6, 10, 26, 40), **turns)
    part = video.to_rgb(next(video.pictures(path, cropped)))
    assert np.abs(part.astype(int) - right[10:40, 6:26]).max() <= 3
    (luma,) = video.survey(path, 1, **turns).lumas
    assert np.corrcoef(luma.ravel(), right[..., 1].ravel())[0, 1] > 0.99
    is_upright = matrix == (1, 0, 0, 1)
    assert (video.copyable(path, (W, H), info.fps) is not None) == is_upright


def test_there_are_eight_cases() -> None:
    assert len(MATRICES) == 8 and {shown(picture(), m).tobytes() for m in MATRICES}.__len__() == 8


@pytest.mark.parametrize("matrix", [(0, 0, 0, 0), (1, 0, 0, 0), (1, 1, 1, 1)])
def test_a_matrix_that_is_no_turn_is_ignored_or_rounded(tmp_path: Path, matrix: tuple[int, ...]) -> None:
    info = video.probe(with_matrix(tmp_path / "a.mp4", matrix, picture()))
    assert not info.mirrored and info.rotation in (0, 90)
