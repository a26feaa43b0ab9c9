"""The hash of a video stream is the same in every container."""

import shutil
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from opendimo.storage_schemas.media import video
from opendimo.storage_schemas.media.stream_hash import _pictures, stream_sha256


def encoded(path: Path, codec: str, seed: int = 0) -> Path:
    """Write a short video with the given codec."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=Fraction(24), options={"x265-params": "log-level=none"})
        stream.width, stream.height, stream.pix_fmt = 128, 96, "yuv420p"
        for image in np.random.default_rng(seed).integers(0, 255, (12, 96, 128, 3)).astype(np.uint8):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format="yuv420p")))
        container.mux(stream.encode())
    return path


def copied(path: Path, to: Path) -> Path:
    """Remux a video into another container."""
    with av.open(str(path)) as source, av.open(str(to), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(source.streams.video[0]):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    return to


@pytest.mark.parametrize(
    ("codec", "suffixes"),
    [("libx264", ("mkv", "ts", "mov")), ("libx265", ("mkv", "ts")), ("mpeg4", ("avi", "mkv"))],
)
def test_a_re_mux_has_the_same_hash(tmp_path: Path, codec: str, suffixes: tuple[str, ...]) -> None:
    original = encoded(tmp_path / "a.mp4", codec)
    found = {suffix: stream_sha256(copied(original, tmp_path / f"b.{suffix}")) for suffix in suffixes}
    assert found == dict.fromkeys(suffixes, stream_sha256(original))


def test_a_real_file_keeps_its_hash_in_another_container(data: Path, tmp_path: Path) -> None:
    path = data / "internet/cups_hands_static.mp4"  # has audio, which the hash ignores
    assert stream_sha256(copied(path, tmp_path / "a.mkv")) == stream_sha256(path) == stream_sha256(path.read_bytes())


def test_start_codes_with_nothing_between_are_passed_over() -> None:
    packet = av.Packet(b"\0\0\1\0\0\1\x65picture\0\0\1")
    assert list(_pictures(packet, "h264")) == [b"\x65picture"]


def test_other_pictures_have_another_hash(tmp_path: Path) -> None:
    one, other = (encoded(tmp_path / f"{seed}.mp4", "libx264", seed) for seed in range(2))
    again = tmp_path / "again.mp4"
    again.write_bytes(video.encode(video.frames(one), Fraction(24), crf=30))
    assert len({stream_sha256(path) for path in (one, other, again)}) == 3
    shutil.copy(one, again)
    assert stream_sha256(again) == stream_sha256(one)


def test_what_is_no_video_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"no video at all")
    with pytest.raises(ValueError, match="not a readable video"):
        stream_sha256(tmp_path / "a.mp4")
