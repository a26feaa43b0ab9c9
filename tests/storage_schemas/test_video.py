"""Decode video bytes to frames and encode frames to video."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from opendimo.storage_schemas.media.video import centre_crop, decode, encode, frames, probe


def moving_bar(count: int = 30, width: int = 64, height: int = 48) -> list[np.ndarray]:
    """Return frames with a white bar whose left edge is at 2 * frame."""
    images = np.zeros((count, height, width, 3), np.uint8)
    for i, image in enumerate(images):
        image[:, 2 * i : 2 * i + 4] = 255
    return list(images)


def bar_position(image: np.ndarray) -> int:
    return int(np.argmax(image[..., 0].mean(axis=0) > 128))


@pytest.fixture(scope="module")
def clip() -> bytes:
    return encode(moving_bar(), Fraction(30000, 1001))


def test_probe_reads_back_what_was_encoded(clip: bytes) -> None:
    info = probe(clip)
    assert (info.codec, info.width, info.height, info.frames) == ("h264", 64, 48, 30)
    assert info.fps == Fraction(30000, 1001)


def test_decode_takes_the_frames_asked_for(clip: bytes) -> None:
    window = decode(clip, start=4, stop=21, step=2)
    assert window.shape == (9, 48, 64, 3)
    assert [bar_position(image) for image in window] == [2 * i for i in range(4, 21, 2)]


def test_decode_refuses_a_window_past_the_end(clip: bytes) -> None:
    with pytest.raises(ValueError, match="ends too early"):
        decode(clip, start=20, stop=40)


def test_rotation_is_clockwise(clip: bytes) -> None:
    upright = next(frames(clip))
    turned = next(frames(clip, rotation=90))
    assert np.array_equal(turned, np.rot90(upright, -1))


@pytest.mark.parametrize("size", [(64, 48), (160, 90), (854, 480)])
def test_the_same_frames_give_the_same_bytes(size: tuple[int, int]) -> None:
    width, height = size
    noise = np.random.default_rng(0).integers(0, 255, (height // 2, width // 2 + 8, 3), np.uint8)
    texture = noise.repeat(2, 0).repeat(2, 1)
    images = [np.ascontiguousarray(texture[:, k : k + width]) for k in range(12)]
    assert len({encode(images, Fraction(24)) for _ in range(5)}) == 1


def test_odd_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="even sizes, got 63x48"):
        encode([np.zeros((48, 63, 3), np.uint8)], Fraction(24))


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "empty"), (b"hello, I am text\n" * 50, "not a readable video"), (b"\0" * 5000, "not a readable video")],
)
def test_bad_files_are_named(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "bad.mp4"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        probe(path)


def test_real_files_have_the_stated_facts(data: Path) -> None:
    info = probe(data / "internet" / "juggle_static_fullbody.mp4")
    assert (info.width, info.height, round(info.fps), info.frames) == (1280, 720, 24, 247)
    vp9 = probe(data / "multiview" / "balance_1person_4cam" / "cam02.mp4")
    assert (vp9.codec, vp9.width, vp9.height) == ("vp9", 1080, 1920)


def test_centre_crop_keeps_the_middle() -> None:
    frames = np.zeros((2, 40, 100, 3), np.uint8)
    frames[:, :, 30:70] = 200
    assert (centre_crop(frames, 20, 20) == 200).all()
    assert centre_crop(frames, 30, 10).shape == (2, 10, 30, 3)
