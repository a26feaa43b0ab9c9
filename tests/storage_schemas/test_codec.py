"""Video files of many formats are read correctly, or rejected with a specific message."""

import io
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest

from opendimo.storage_schemas.media.constant_rate import constant_rate
from opendimo.storage_schemas.media.video import (
    Encoder,
    Encoding,
    Wanted,
    check_encoder,
    encode,
    frames,
    pictures,
    probe,
    survey,
    to_rgb,
    working_encoders,
)

W, H = 96, 64


def scene(count: int, width: int = W, height: int = H) -> list[np.ndarray]:
    """Return frames with a light square that moves right on a gradient; the red top left corner shows rotations."""
    images = []
    for k in range(count):
        image = np.linspace(40, 120, width).astype(np.uint8)[None, :, None].repeat(height, 0).repeat(3, 2)
        image[height // 2 : height // 2 + 12, 2 * k % (width - 16) :][:, :12] = 230
        image[: height // 4, : width // 4] = (220, 30, 30)
        images.append(np.ascontiguousarray(image))
    return images


def write(
    path: Path,
    codec: str,
    images: list[np.ndarray],
    pixels: str = "yuv420p",
    times: list[int] | None = None,
    **options: str,
) -> Path:
    """Write a video without our encoder; `times` in milliseconds, by default 25 frames per second."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25, options=options)
        stream.height, stream.width = images[0].shape[:2]
        stream.pix_fmt = pixels
        if times is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        for k, image in enumerate(images):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format=pixels)
            frame.pts, frame.time_base = (k, Fraction(1, 25)) if times is None else (times[k], Fraction(1, 1000))
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def wanted(path: Path, **changes: object) -> Wanted:
    info = probe(path)
    size = (info.width // 2 * 2, info.height // 2 * 2)
    return Wanted(**{"stated": (info.width, info.height), "size": size, "rotation": info.rotation, **changes})


def read(path: Path, **changes: object) -> list[np.ndarray]:
    return [to_rgb(picture) for picture in pictures(path, wanted(path, **changes))]


def red_corner(image: np.ndarray) -> str:
    h, w = image.shape[0] // 4, image.shape[1] // 4
    corners = {"top left": image[:h, :w], "top right": image[:h, -w:], "bottom left": image[-h:, :w],
               "bottom right": image[-h:, -w:]}  # fmt: skip
    return max(corners, key=lambda name: float(corners[name][..., 0].mean()) - float(corners[name][..., 2].mean()))


# codecs and pixels


@pytest.mark.parametrize(
    ("name", "codec", "pixels"),
    [
        ("vp9.webm", "libvpx-vp9", "yuv420p"),
        ("av1.mp4", "libsvtav1", "yuv420p"),
        ("hevc.mp4", "libx265", "yuv420p"),
        ("hevc10.mp4", "libx265", "yuv420p10le"),
        ("high10.mp4", "libx264", "yuv420p10le"),
        ("chroma444.mp4", "libx264", "yuv444p"),
        ("mpeg4.avi", "mpeg4", "yuv420p"),
        ("mpeg2.ts", "mpeg2video", "yuv420p"),
        ("prores.mov", "prores_ks", "yuv422p10le"),
        ("mjpeg.mov", "mjpeg", "yuvj420p"),
    ],
)
def test_codecs_become_the_same_pictures(tmp_path: Path, name: str, codec: str, pixels: str) -> None:
    images = scene(12)
    got = read(write(tmp_path / name, codec, images, pixels), fps=Fraction(25))
    assert len(got) == 12
    for image, seen in zip(images, got, strict=True):
        assert np.abs(image.astype(int) - seen).mean() < 6


@pytest.mark.parametrize("size", [(97, 65), (96, 65), (97, 64)])
def test_odd_sizes_lose_a_line(tmp_path: Path, size: tuple[int, int]) -> None:
    path = write(tmp_path / "odd.mkv", "ffv1", scene(4, *size), "yuv444p")
    assert {image.shape for image in read(path)} == {(size[1] // 2 * 2, size[0] // 2 * 2, 3)}


def test_colour_tags_and_values_come_through(tmp_path: Path) -> None:
    path = tmp_path / "full.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"qp": "0"})
        stream.width, stream.height, stream.pix_fmt = W, H, "yuv420p"
        context = stream.codec_context
        context.color_range, context.colorspace, context.color_primaries, context.color_trc = 2, 1, 1, 1
        frame = av.VideoFrame(W, H, "yuv420p")
        for plane, value in zip(frame.planes, (250, 90, 160), strict=True):  # luma above the limited range
            plane.update(bytes([value]) * plane.buffer_size)
        for k in range(3):
            frame.pts = k
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    encoder = Encoder(Fraction(25), Encoding(crf=1))
    for picture in pictures(path, wanted(path, size=(W // 2, H // 2))):
        encoder.push(picture)
    with av.open(io.BytesIO(encoder.finish())) as container:
        context = container.streams.video[0].codec_context
        tags = (context.color_range, context.colorspace, context.color_primaries, context.color_trc)
        picture = next(container.decode(video=0))
        values = [np.frombuffer(memoryview(plane), np.uint8)[0] for plane in picture.planes]
    assert tags == (2, 1, 1, 1)
    assert np.abs(np.array(values, int) - (250, 90, 160)).max() <= 1


# rotation


@pytest.mark.parametrize(
    ("turn", "corner"), [(90, "top right"), (180, "bottom right"), (270, "bottom left"), (0, "top left")]
)
def test_pictures_stand_upright(tmp_path: Path, turn: int, corner: str) -> None:
    path = tmp_path / "turned.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = W, H, "yuv420p"
        stream.set_display_rotation(-turn % 360)  # counter-clockwise, as in FFmpeg
        for image in scene(3):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    info = probe(path)
    assert (info.rotation, info.width) == (turn, H if turn in (90, 270) else W)
    got = read(path)[0]
    assert got.shape == (info.height, info.width, 3) and red_corner(got) == corner
    assert np.abs(got.astype(int) - next(frames(path, rotation=turn))).mean() < 3
    region = (8, 16, info.width - 8, info.height - 16)
    part = read(path, region=region, size=(region[2] - 8, region[3] - 16))[0]
    assert np.abs(part.astype(int) - got[16:-16, 8:-8]).mean() < 1


# time


def test_a_variable_rate_becomes_constant_by_the_times(tmp_path: Path) -> None:
    times = [0, 40, 80, 240, 280, 300, 320, 340, 360, 400]  # one frame of 160 ms, then twice the frame rate
    path = write(tmp_path / "variable.mkv", "libx264", scene(10), times=times)
    images, got = scene(10), read(path, fps=Fraction(25))
    shown = [min(range(10), key=lambda k: np.abs(images[k].astype(int) - seen).sum()) for seen in got]
    assert len(got) == 11 and shown[:7] == [0, 1, 2, 2, 2, 2, 3] and shown[-1] == 9
    assert all(abs(times[frame] - 40 * place) <= 160 for place, frame in enumerate(shown))


def test_times_that_jitter_change_nothing() -> None:
    rng = np.random.default_rng(0)
    times = [k / 30 + rng.uniform(-0.3, 0.3) / 30 for k in range(300)]
    assert list(constant_rate(zip(range(300), times, strict=True), Fraction(30))) == list(range(300))


def test_a_rate_that_is_off_loses_or_repeats_single_frames() -> None:
    got = list(constant_rate(((k, k / 30) for k in range(3000)), Fraction(30000, 1001)))
    assert abs(len(got) - 3000 * 1000 / 1001) <= 1 and max(b - a for a, b in pairwise(got)) == 2


def test_a_hole_of_an_hour_is_not_filled_and_a_step_back_begins_anew() -> None:
    times = [0.0, 0.1, 3600.0, 3600.1, 5.0, 5.1]
    assert list(constant_rate(zip(range(6), times, strict=True), Fraction(10))) == list(range(6))


def test_a_file_of_hardly_any_pictures_is_not_blown_up() -> None:
    with pytest.raises(ValueError, match=r"only 202 frames for \d+ s at 50 fps: re-encode the video"):
        list(constant_rate(((k, 5.0 * k) for k in range(1000)), Fraction(50)))


def test_a_last_picture_that_is_held_long_is_not_missing(tmp_path: Path) -> None:
    path = tmp_path / "held.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"bf": "0"})
        stream.width, stream.height, stream.pix_fmt = W, H, "yuv420p"
        frames_ = [av.VideoFrame.from_ndarray(image, format="rgb24") for image in scene(50)]
        packets = [packet for frame in [*frames_, None] for packet in stream.encode(frame)]
        packets[-1].duration = round(5 / packets[-1].time_base)
        for packet in packets:
            container.mux(packet)
    with av.open(str(path)) as container:
        assert container.duration == pytest.approx(6.96e6, abs=1e4)  # microseconds
    assert len(read(path)) == 50


def late(path: Path, start: float, count: int = 75) -> bytes:
    """Write a video of 25 frames per second whose first time stamp is `start` seconds; return its bytes."""
    noise = np.random.default_rng(0).integers(0, 255, (count, H, W, 3), np.uint8)
    with av.open(str(path), "w", options={"movflags": "faststart"} if path.suffix in (".mp4", ".mov") else {}) as out:
        stream = out.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = W, H, "yuv420p"
        for frame in [*(av.VideoFrame.from_ndarray(image, format="rgb24") for image in noise), None]:
            for packet in stream.encode(frame):
                offset = round(start / packet.time_base)
                packet.pts, packet.dts = packet.pts + offset, packet.dts + offset
                out.mux(packet)
    return path.read_bytes()


@pytest.mark.parametrize("suffix", ["mkv", "mov", "mp4", "ts", "nut", "avi", "asf"])
@pytest.mark.parametrize("start", [0.0, 2.0, 12.0])
def test_a_video_that_starts_late_is_whole(tmp_path: Path, suffix: str, start: float) -> None:
    """Matroska, ASF and NUT count their duration from zero, the others from the first frame."""
    path = tmp_path / f"late.{suffix}"
    late(path, start)
    assert len(read(path)) >= 75  # AVI stores the gap as repeated frames
    assert survey(path, 3, 0).lumas


@pytest.mark.parametrize("start", [0.0, 12.0])
def test_a_late_matroska_that_is_cut_short_is_named(tmp_path: Path, start: float) -> None:
    whole = late(tmp_path / "late.mkv", start, 200)
    (tmp_path / "half.mkv").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"truncated: frames for \d\.\d s of the stated 8\.0 s"):
        read(tmp_path / "half.mkv")


def test_a_title_that_is_no_utf8_costs_nothing(tmp_path: Path) -> None:
    path = tmp_path / "title.mp4"
    with av.open(str(path), "w") as container:
        container.metadata["title"] = "Muenchen"
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = W, H, "yuv420p"
        for frame in [*(av.VideoFrame.from_ndarray(image, format="rgb24") for image in scene(5)), None]:
            container.mux(stream.encode(frame))
    path.write_bytes(path.read_bytes().replace(b"Muenchen", "Münchenn".encode("latin-1")))
    assert len(read(path)) == 5 and probe(path).frames == 5


def test_examples_of_late_starts_and_titles_are_read(data: Path) -> None:
    assert len(list(frames(data / "wild/containers/late_start.mkv"))) == 60
    assert len(list(frames(data / "wild/containers/latin1_title.mp4"))) == 48


# interlaced


def test_interlaced_pictures_lose_their_combs(tmp_path: Path) -> None:
    fields = scene(24)
    woven = []
    for top, bottom in zip(fields[::2], fields[1::2], strict=True):
        image = top.copy()
        image[1::2] = bottom[1::2]
        woven.append(image)
    path = tmp_path / "interlaced.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"x264-params": "tff=1", "crf": "5"})
        stream.width, stream.height, stream.pix_fmt = W, H, "yuv420p"
        for image in woven:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())

    def comb(image: np.ndarray) -> float:
        lines = image[H // 2 + 1 : H // 2 + 11].astype(int)[..., 0]
        return float(np.abs(2 * lines[1:-1] - lines[:-2] - lines[2:]).mean())

    got = read(path)
    assert len(got) == 12
    assert np.mean([comb(image) for image in got[2:-2]]) < 0.35 * np.mean([comb(image) for image in woven[2:-2]])


# rejected files


def test_audio_alone_is_named(tmp_path: Path) -> None:
    path = tmp_path / "song.m4a"
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("aac", rate=44100)
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 4096), np.float32), format="fltp", layout="mono")
        silence.sample_rate = 44100
        container.mux(stream.encode(silence))
        container.mux(stream.encode())
    with pytest.raises(ValueError, match="no video stream, only audio"):
        probe(path)


def test_a_file_cut_short_is_named(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (100, H, W, 3), np.uint8)
    with av.open(str(tmp_path / "whole.mp4"), "w", options={"movflags": "faststart"}) as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = W, H, "yuv420p"
        for image in noise:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    whole = (tmp_path / "whole.mp4").read_bytes()
    path = tmp_path / "half.mp4"
    path.write_bytes(whole[: len(whole) // 2])
    assert probe(path).frames == 100  # as stated by the header
    with pytest.raises(ValueError, match=r"truncated: frames for \d\.\d s of the stated 4\.0 s"):
        read(path)


def test_an_index_that_is_missing_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mp4", "libx264", scene(10))
    path.write_bytes(path.read_bytes()[:400])
    with pytest.raises(ValueError, match="not a readable video"):
        probe(path)


@pytest.mark.parametrize(
    "text",
    [
        "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile:///etc/hostname\n#EXT-X-ENDLIST\n",
        "ffconcat version 1.0\nfile a.mp4\n",
        "<MPD xmlns='urn:mpeg:dash:schema:mpd:2011'></MPD>",
    ],
)
def test_lists_of_other_files_are_no_videos(tmp_path: Path, text: str) -> None:
    write(tmp_path / "a.mp4", "libx264", scene(3))
    path = tmp_path / "list.mp4"
    path.write_text(text)
    with pytest.raises(ValueError, match="not a readable video"):
        probe(path)


def test_pictures_beyond_all_bounds_are_not_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.mp4", "libx264", scene(3))
    monkeypatch.setattr("opendimo.storage_schemas.media.opening.MAX_PIXELS", W * H - 1)
    with pytest.raises(ValueError, match=f"frames of {W}x{H} have more than"):
        probe(path)


# other properties


def test_pixels_that_are_not_square_are_told(tmp_path: Path) -> None:
    path = tmp_path / "wide.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = W, H, "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(4, 3)
        container.mux(stream.encode(av.VideoFrame.from_ndarray(scene(1)[0], format="rgb24")))
        container.mux(stream.encode())
    assert probe(path).aspect == survey(path, 0, 0).aspect == Fraction(4, 3)
    assert survey(path, 1, 90).aspect == Fraction(3, 4)


def test_samples_are_key_frames_from_all_over(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(encode([np.full((H, W, 3), 2 * k, np.uint8) for k in range(100)], Fraction(25)))
    got = sorted(float(image.mean()) for image in survey(path, 4, 0).lumas)
    assert len(got) == 4 and got[0] < 40 and got[-1] > 140


def test_the_software_encoder_works_and_unknown_ones_are_named() -> None:
    assert working_encoders()[0] == "libx264"
    with pytest.raises(ValueError, match="no encoder 'libx999'; there are libx264, h264_nvenc"):
        check_encoder("libx999")
