"""Decode video bytes to frames and encode frames to video."""

import io
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from opendimo.storage_schemas.media.video import centre_crop, decode, encode, frames, probe, window


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
    chosen = decode(clip, start=4, stop=21, step=2)
    assert chosen.shape == (9, 48, 64, 3)
    assert [bar_position(image) for image in chosen] == [2 * i for i in range(4, 21, 2)]


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


@pytest.mark.parametrize("chosen", [range(5), range(3, 40, 2), range(24, 30), range(25, 60, 3), range(59, 60)])
def test_a_window_holds_the_frames_that_decoding_from_the_start_gives(chosen: range) -> None:
    wall = np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8)
    clip = encode(np.stack([np.roll(wall, (t, 2 * t), (0, 1)) for t in range(60)]), Fraction(24))
    frames = list(window(clip, Fraction(24), chosen))
    assert np.array_equal(frames, decode(clip)[chosen.start : chosen.stop : chosen.step])


def test_a_window_decodes_from_the_key_frame_before_it() -> None:
    wall = np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8)
    clip = bytearray(encode(np.stack([np.roll(wall, (t, 2 * t), (0, 1)) for t in range(72)]), Fraction(24)))
    expected = decode(bytes(clip))[48:]
    with av.open(io.BytesIO(clip)) as container:
        first, second = list(container.demux(video=0))[2:4]  # frames of the first second
    clip[first.pos : first.pos + first.size] = bytes(first.size)
    clip[second.pos : second.pos + second.size] = bytes(second.size)
    assert np.array_equal(list(window(bytes(clip), Fraction(24), range(48, 72))), expected)


def test_a_window_past_the_end_is_refused(clip: bytes) -> None:
    with pytest.raises(ValueError, match=r"of frames 20 to 39 the clip has \d+ instead of 20"):
        list(window(clip, Fraction(30000, 1001), range(20, 40)))
