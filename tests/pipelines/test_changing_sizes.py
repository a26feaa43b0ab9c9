"""Videos whose frames change size midway: cut there, and both parts are kept."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from opendimo.pipelines.clips.cut import ClipsConfig, clips_of
from opendimo.pipelines.engine.stage import DataError
from opendimo.pipelines.people.detector import Detector
from opendimo.pipelines.quality.policy import Policy
from opendimo.storage_schemas.media import video
from tests.pipelines.clip_sources import source_row, verdict

SIZES = [(640, 360), (320, 180), (480, 480)]


@pytest.fixture(scope="module")
def detector() -> Detector:
    return Detector(ClipsConfig().people.detector)


@pytest.fixture(scope="module")
def people(data: Path) -> np.ndarray:
    """Return frames [T, H, W, 3] of one person in full view."""
    return video.decode(data / "internet/juggle_static_fullbody.mp4", stop=60, size=(640, 360))


def joined(path: Path, codec: str, parts: list[np.ndarray], fps: int = 24) -> Path:
    """Write the parts [T, H, W, 3] as one coded stream that changes its size."""
    with av.open(str(path), "w") as container:
        first = parts[0]
        out = container.add_stream(codec, rate=fps)
        out.width, out.height, out.pix_fmt = first.shape[2], first.shape[1], "yuv420p"
        at = 0
        for part in parts:
            context = av.CodecContext.create(codec, "w")
            context.width, context.height, context.pix_fmt = part.shape[2], part.shape[1], "yuv420p"
            context.time_base, context.framerate = Fraction(1, fps), Fraction(fps)
            context.options = (
                {"bf": "0", "g": "24"} if "264" in codec else {"lag-in-frames": "0", "deadline": "realtime"}
            )
            for k, image in enumerate(part):
                frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
                frame.pts, frame.time_base = k, Fraction(1, fps)
                for packet in context.encode(frame):
                    _mux(container, out, packet, at)
            for packet in context.encode():
                _mux(container, out, packet, at)
            at += len(part)
    return path


def _mux(container: av.container.OutputContainer, out: av.VideoStream, packet: av.Packet, shift: int) -> None:
    packet.pts, packet.dts, packet.stream = packet.pts + shift, packet.pts + shift, out
    container.mux(packet)


def scaled(images: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return np.stack([video.resize(image, size) for image in images])


FORMATS = [("a.ts", "libx264"), ("a.webm", "libvpx"), ("a.mkv", "libvpx-vp9")]


@pytest.mark.parametrize(("name", "codec"), FORMATS)
@pytest.mark.parametrize("copy", [False, True])
def test_a_change_of_size_is_a_cut_and_both_parts_are_kept(
    people: np.ndarray, detector: Detector, tmp_path: Path, name: str, codec: str, copy: bool
) -> None:
    parts = [people[:30], scaled(people[30:], SIZES[1])]
    row = source_row(joined(tmp_path / name, codec, parts))
    rows = clips_of(row, ClipsConfig(copy=copy), detector)
    spans = [(clip["start_frame"], clip["end_frame"], clip["width"], clip["height"]) for clip in rows["clips"]]
    assert spans == [(0, 30, 640, 360), (30, 60, 320, 180)]
    assert [(c["source_width"], c["source_height"]) for c in rows["clips"]] == SIZES[:2]
    assert [c["region"] for c in rows["clips"]] == [[0, 0, 640, 360], [0, 0, 320, 180]]
    for clip, stored, part in zip(rows["clips"], rows["clip_videos"], parts, strict=True):
        assert verdict(clip, Policy()) is None and clip["track"].shape == (30, 4)
        frames = video.decode(bytes(stored["video"]))
        assert frames.shape == part.shape and np.abs(frames.astype(int) - part).mean() < 8


def test_the_size_may_change_back_and_the_shape_may_change(
    people: np.ndarray, detector: Detector, tmp_path: Path
) -> None:
    parts = [people[:20], scaled(people[20:40], SIZES[2]), people[40:]]
    row = source_row(joined(tmp_path / "a.webm", "libvpx", parts))
    for config in (ClipsConfig(), ClipsConfig(copy=True)):
        clips = clips_of(row, config, detector)["clips"]
        spans = [(clip["start_frame"], clip["end_frame"], clip["width"], clip["height"]) for clip in clips]
        assert spans == [(0, 20, 640, 360), (20, 40, 480, 480), (40, 60, 640, 360)]


def test_a_short_part_is_filtered_and_the_other_kept(people: np.ndarray, detector: Detector, tmp_path: Path) -> None:
    row = source_row(joined(tmp_path / "a.webm", "libvpx", [people[:6], scaled(people[6:], SIZES[1])]))
    clips = clips_of(row, ClipsConfig(), detector)["clips"]
    assert [verdict(clip, Policy()) for clip in clips] == ["too_short", None]


def test_a_source_with_a_camera_is_an_error_that_says_what_helps(
    people: np.ndarray, detector: Detector, tmp_path: Path
) -> None:
    camera = {"K": np.eye(3, dtype=np.float32)[None], "world_to_camera": np.eye(3, 4, dtype=np.float32)[None]}
    path = joined(tmp_path / "a.webm", "libvpx", [people[:6], scaled(people[6:12], SIZES[1])])
    message = "frame 6 is 320x180, those before are 640x360"
    with pytest.raises(DataError, match=f"{message}.*re-encode the video to one size"):
        clips_of(source_row(path, **camera), ClipsConfig(), detector)
    with pytest.raises(ValueError, match=message):
        list(video.frames(path))
    assert len(video.decode(path, stop=6)) == 6


def test_interlaced_parts_of_two_sizes_are_read(tmp_path: Path) -> None:
    sizes = [(64, 48), (96, 64)]
    path = tmp_path / "a.ts"
    content = b""
    for width, height in sizes:
        part = tmp_path / f"{width}.ts"
        with av.open(str(part), "w") as container:
            stream = container.add_stream("mpeg2video", rate=25, options={"flags": "+ildct+ilme"})
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            for k in range(10):
                frame = av.VideoFrame.from_ndarray(np.full((height, width, 3), 20 * k, np.uint8), format="rgb24")
                frame.pts = k
                container.mux(stream.encode(frame.reformat(format="yuv420p")))
            container.mux(stream.encode())
        content += part.read_bytes()
    path.write_bytes(content)
    with av.open(str(path)) as container:
        shapes = [(frame.width, frame.height) for frame in container.decode(video=0)]
    decoded = [shapes.count(size) for size in sizes]  # the decoder may lose a frame at the change
    parts = [(part.first, part.size, sum(1 for _ in part.frames)) for part in video.parts(path)]
    assert parts == [(0, sizes[0], decoded[0]), (decoded[0], sizes[1], decoded[1])] and min(decoded) >= 9
