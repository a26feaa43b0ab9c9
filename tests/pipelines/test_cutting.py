"""Cutting clips: black bars are cropped, windows have training length, frames have the right times and scores."""

import io
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from opendimo.pipelines.clips.cut import ClipsConfig, clips_of
from opendimo.pipelines.clips.letterbox import bar_share, kept_region
from opendimo.pipelines.clips.shots import ShotsConfig
from opendimo.pipelines.clips.windows import WindowsConfig
from opendimo.pipelines.engine.stage import DataError
from opendimo.pipelines.people.detector import DetectorConfig, Person
from opendimo.pipelines.people.mediapipe_pose import Body, Region
from opendimo.pipelines.people.visibility import of_landmarks
from opendimo.pipelines.quality.policy import Policy
from opendimo.storage_schemas.media import video
from opendimo.storage_schemas.settings import load_settings
from tests.pipelines.clip_sources import source_row, verdict


class FixedPerson:
    """A detector that returns one person in the middle of every picture."""

    config = DetectorConfig()

    def __init__(self) -> None:
        self.looks = 0

    def search(self, image: np.ndarray) -> list[Person]:
        self.looks += 1
        h, w = image.shape[:2]
        landmarks = np.tile(np.float32([w / 2, h / 2, 1]), (33, 1))
        box = np.float32([0.4 * w, 0.2 * h, 0.6 * w, 0.8 * h])
        region = Region((w / 2, h / 2), (w / 2, 0), 1.0)
        return [Person(box, Body(landmarks, region), of_landmarks(landmarks, (w, h)), region)]

    glance = search

    def again(self, image: np.ndarray, person: Person) -> Person | None:
        return None


class PasserBy(FixedPerson):
    """A detector that returns a second person of half the size in the pictures with these numbers."""

    def __init__(self, present: range) -> None:
        super().__init__()
        self.present = present

    def search(self, image: np.ndarray) -> list[Person]:
        people = super().search(image)
        if number(image) in self.present:
            h, w = image.shape[:2]
            people.append(replace(people[0], box=np.float32([0.1 * w, 0.3 * h, 0.2 * w, 0.7 * h])))
        return people

    glance = search


def counted(frames: int, size: tuple[int, int] = (160, 96), seed: int = 0) -> Iterator[np.ndarray]:
    """Return smooth pictures that encode the frame number in 12 black or white blocks at the top."""
    rng = np.random.default_rng(seed)
    ground = cv2.resize(rng.integers(60, 200, (4, 6, 3), np.uint8), size, interpolation=cv2.INTER_CUBIC)
    for k in range(frames):
        image = ground.copy()
        for bit in range(12):
            image[:8, 8 * bit : 8 * bit + 8] = 255 * (k >> bit & 1)
        yield image


def number(image: np.ndarray) -> int:
    scale = image.shape[1] / 160
    return sum(1 << bit for bit in range(12) if image[int(4 * scale), int((8 * bit + 4) * scale)].mean() > 128)


def made(path: Path, images: Iterator[np.ndarray] | list[np.ndarray], fps: int = 25) -> Path:
    path.write_bytes(video.encode(images, Fraction(fps), crf=10))
    return path


def cut(path: Path, config: ClipsConfig, **columns: object) -> list[dict]:
    rows = clips_of(source_row(path, **columns), config, FixedPerson())
    videos = {row["clip_id"]: bytes(row["video"]) for row in rows["clip_videos"]}
    return [clip | {"pictures": video.decode(videos[clip["clip_id"]])} for clip in rows["clips"]]


def spans(clips: list[dict]) -> list[tuple[int, int]]:
    return [(clip["start_frame"], clip["end_frame"]) for clip in clips]


# windows


@pytest.mark.parametrize(
    ("windows", "expected"),
    [
        (WindowsConfig(max_frames=40, min_rest=10), [(0, 40), (40, 80), (80, 100)]),
        (WindowsConfig(max_frames=40, min_rest=21), [(0, 40), (40, 80)]),
        (WindowsConfig(max_frames=40, stride=20, min_rest=10), [(0, 40), (20, 60), (40, 80), (60, 100)]),
        (WindowsConfig(max_frames=40, stride=30, min_rest=10), [(0, 40), (30, 70), (60, 100)]),
        (WindowsConfig(max_frames=20, stride=60, min_rest=10), [(0, 20), (60, 80)]),
        (WindowsConfig(max_frames=300, min_rest=200), [(0, 100)]),
    ],
)
def test_windows_of_a_shot(tmp_path: Path, windows: WindowsConfig, expected: list[tuple[int, int]]) -> None:
    path = made(tmp_path / "a.mp4", counted(100))
    clips = cut(path, ClipsConfig(windows=windows))
    assert spans(clips) == expected
    for clip in clips:
        assert [number(image) for image in clip["pictures"]] == list(range(clip["start_frame"], clip["end_frame"]))
        assert clip["track"].shape == (clip["frames"], 4) and np.isfinite(clip["track"]).all()
        assert len(clip["frame_hashes"]) == -(-clip["frames"] // clip["hash_step"])


def test_windows_that_overlap_are_measured_once(tmp_path: Path) -> None:
    row = source_row(made(tmp_path / "a.mp4", counted(100)))
    looks = []
    for stride in (0, 10):
        detector = FixedPerson()
        clips_of(row, ClipsConfig(windows=WindowsConfig(max_frames=40, stride=stride)), detector)
        looks.append(detector.looks)
    assert looks[0] == looks[1]


def test_a_second_person_in_25_of_53_frames_is_one_too_many(tmp_path: Path) -> None:
    row = source_row(made(tmp_path / "a.mp4", counted(53)))
    whole = ClipsConfig(windows=WindowsConfig(max_second_share=1))
    (clip,) = clips_of(row, whole, PasserBy(range(28, 53)))["clips"]
    assert clip["people"] == 1 and clip["second_share"] == pytest.approx(25 / 53)
    assert verdict(clip, Policy(min_sharpness=0)) == "several_people"
    assert verdict(clip, Policy(min_sharpness=0, max_people=2)) is None


@pytest.mark.parametrize("wrong", [{"max_frames": 0}, {"margin": -1}, {"stride": -5}])
def test_windows_that_cannot_be_are_refused(wrong: dict) -> None:
    with pytest.raises(ValueError, match="windows: max_frames must be 1 or more"):
        WindowsConfig(**wrong)


def test_a_source_without_a_frame_between_its_cuts_is_rejected(tmp_path: Path) -> None:
    path = made(tmp_path / "a.mp4", counted(12))

    def every_third(frames):
        return ((frame.number % 3 == 0, frame) for frame in frames)

    config = ClipsConfig(windows=WindowsConfig(margin=5))
    with pytest.raises(DataError, match="every shot is shorter than the margins"):
        clips_of(source_row(path), config, FixedPerson(), every_third)


def test_the_same_file_gives_the_same_rows_and_bytes(tmp_path: Path) -> None:
    path = made(tmp_path / "a.mp4", counted(60))
    first, second = (clips_of(source_row(path), ClipsConfig(), FixedPerson()) for _ in range(2))
    videos = [[bytes(row["video"]) for row in rows["clip_videos"]] for rows in (first, second)]
    assert videos[0] == videos[1]
    for a, b in zip(first["clips"], second["clips"], strict=True):
        assert a.keys() == b.keys()
        assert all(np.array_equal(a[name], b[name]) for name in a)


# geometry and time


def barred(images: Iterator[np.ndarray], above: int, beside: int = 0) -> list[np.ndarray]:
    padding = ((above, above), (beside, beside), (0, 0))
    return [np.pad(image, padding, constant_values=2) for image in images]


@pytest.mark.parametrize(("above", "beside"), [(20, 0), (0, 30)])
def test_black_bars_are_cut_off(tmp_path: Path, above: int, beside: int) -> None:
    path = made(tmp_path / "a.mp4", barred(counted(40), above, beside))
    (clip,) = cut(path, ClipsConfig())
    x0, y0, x1, y1 = clip["region"]
    assert abs(x0 - beside) <= 2 and abs(y0 - above) <= 2
    assert abs(x1 - beside - 160) <= 2 and abs(y1 - above - 96) <= 2
    assert (clip["width"], clip["height"]) == (x1 - x0, y1 - y0) and clip["bars"] < 0.03
    assert clip["pictures"][5, 8:].min() > 30
    (whole,) = cut(path, ClipsConfig(letterbox=False))
    assert whole["region"] == [0, 0, 160 + 2 * beside, 96 + 2 * above] and whole["bars"] > 0.2


def test_bars_in_front_of_a_camera_stay(tmp_path: Path) -> None:
    path = made(tmp_path / "a.mp4", barred(counted(20), 20))
    (clip,) = cut(path, ClipsConfig(), K=np.eye(3, dtype=np.float32)[None], kind="multiview")
    assert clip["height"] == 136


def test_dark_scenes_and_uneven_borders_are_no_bars() -> None:
    dim = np.full((90, 160), 40, np.uint8)
    dim[30:60] = 55
    picture = np.full((90, 160), 120, np.uint8)
    uneven, spot = picture.copy(), np.zeros((90, 160), np.uint8)
    uneven[:20] = 16
    spot[40:50, 70:90] = 200  # a lamp in the dark
    assert kept_region([dim]) is None and kept_region([uneven]) is None and kept_region([spot]) is None
    assert kept_region([]) is None
    assert bar_share(spot) > 0.9 and bar_share(picture) == 0 and abs(bar_share(uneven) - 20 / 90) < 0.01


def test_a_turned_file_with_bars_and_wide_pixels_becomes_right(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    images = barred(counted(30), 0, 24)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "8"})
        stream.height, stream.width = images[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(3, 2)
        stream.set_display_rotation(-90)
        for image in images:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    (clip,) = cut(path, ClipsConfig(windows=WindowsConfig()))
    x0, y0, x1, y1 = clip["region"]  # in the upright picture, 96 wide and 208 high
    assert (x0, x1) == (0, 96) and abs(y0 - 24) <= 2 and abs(y1 - 184) <= 2
    assert abs(clip["width"] / clip["height"] - 96 / (160 * 1.5)) < 0.02
    upright = np.rot90(images[7][:, 24:-24], -1)
    seen = cv2.resize(clip["pictures"][7], (96, 160), interpolation=cv2.INTER_AREA)
    assert np.abs(upright.astype(int) - seen)[12:-12].mean() < 6


def test_a_variable_rate_becomes_constant(tmp_path: Path) -> None:
    path = tmp_path / "a.mkv"
    times = [*range(0, 1000, 40), *range(1200, 2200, 40)]  # 25 frames, a hold of a fifth of a second, 25 frames
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "8"})
        stream.width, stream.height, stream.pix_fmt = 160, 96, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        for time, image in zip(times, counted(50), strict=True):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = time, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    (clip,) = cut(path, ClipsConfig(), fps_num=25, fps_den=1)
    shown = [number(image) for image in clip["pictures"]]
    assert len(shown) == 55 and shown[:25] == list(range(25))
    assert shown[30:] == list(range(25, 50)) and set(shown[25:30]) <= {24, 25}
    (stored,) = cut(path, ClipsConfig(), fps_num=25, fps_den=1, kind="multiview")  # a rig counts stored frames
    assert stored["frames"] == 50


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_video_of_two_hours_takes_little_memory(tmp_path: Path) -> None:
    frames, clips, _, _, most = measured(tmp_path, 7200, 320, 180, 0)
    assert (frames, clips) == (72_000, 240) and most < 1536


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_memory_does_not_grow_with_the_bytes_of_the_clips(tmp_path: Path) -> None:
    """Both videos exceed what is buffered for writing into the table, some hundred megabytes."""
    _, _, short, _, less = measured(tmp_path / "short", 180, 1280, 720, 25)
    _, _, long, _, more = measured(tmp_path / "long", 300, 1280, 720, 25)
    assert long - short > 128 << 20 and more - less < 64, (short, long, less, more)


def measured(folder: Path, *how: int) -> list[int]:
    """Return what `long_video` prints for a video of these seconds, width, height and noise."""
    folder.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "tests.pipelines.long_video", str(folder / "long.mp4"), *map(str, how)]
    return [int(word) for word in subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()]


def packets(content: bytes | Path) -> list[bytes]:
    with av.open(io.BytesIO(content) if isinstance(content, bytes) else str(content)) as container:
        return [bytes(packet) for packet in container.demux(video=0) if packet.size]


def test_packets_are_copied_where_a_clip_lies_between_key_frames(tmp_path: Path) -> None:
    path = made(tmp_path / "a.mp4", counted(90))  # a key frame every 25
    config = ClipsConfig(copy=True, windows=WindowsConfig(max_frames=50))
    clips = cut(path, config)
    assert spans(clips) == [(0, 50), (50, 90)] and [clip["encoder"] for clip in clips] == ["copy", "copy"]
    for clip in clips:
        assert [number(image) for image in clip["pictures"]] == list(range(clip["start_frame"], clip["end_frame"]))
    videos = [bytes(row["video"]) for row in clips_of(source_row(path), config, FixedPerson())["clip_videos"]]
    whole = packets(path)
    assert packets(videos[0]) == whole[:50] and packets(videos[1]) == whole[50:]
    assert video.probe(videos[1]).frames == 40


@pytest.mark.parametrize(
    ("windows", "encoders"),
    [(WindowsConfig(max_frames=40), ["libx264"] * 3), (WindowsConfig(max_frames=75), ["copy", "libx264"])],
)
def test_what_ends_elsewhere_is_encoded(tmp_path: Path, windows: WindowsConfig, encoders: list[str]) -> None:
    def begins_at_95(frames):
        return ((frame.number == 95, frame) for frame in frames)

    path = made(tmp_path / "a.mp4", counted(100))
    rows = clips_of(source_row(path), ClipsConfig(copy=True, windows=windows), FixedPerson(), begins_at_95)
    assert [clip["encoder"] for clip in rows["clips"]][: len(encoders)] == encoders
    for clip, stored in zip(rows["clips"], rows["clip_videos"], strict=True):
        shown = [number(image) for image in video.decode(bytes(stored["video"]))]
        assert shown == list(range(clip["start_frame"], clip["end_frame"]))


@pytest.mark.parametrize("change", [{"short_side": 48}, {"copy": False}])
def test_what_has_another_size_is_encoded(tmp_path: Path, change: dict) -> None:
    (clip,) = cut(made(tmp_path / "a.mp4", counted(50)), ClipsConfig(**{"copy": True, **change}))
    assert clip["encoder"] == "libx264"


# the file of settings


def test_how_clips_are_cut_is_a_file(tmp_path: Path) -> None:
    path = tmp_path / "clips.toml"
    path.write_text(
        'short_side = 720\n[windows]\nmax_frames = 121\nstride = 60\n[shots]\nratio = 4\nweights = "t.pth"\n'
    )
    assert load_settings(path, ClipsConfig) == ClipsConfig(
        short_side=720,
        windows=WindowsConfig(max_frames=121, stride=60),
        shots=ShotsConfig(ratio=4.0, weights="t.pth"),
    )
    path.write_text("[windows]\nlength = 121\n")
    with pytest.raises(ValueError, match=r"unknown key 'windows.length'; known keys: margin, max_frames, stride"):
        load_settings(path, ClipsConfig)
    path.write_text("[windows]\nmax_frames = 0\n")
    with pytest.raises(ValueError, match=r"clips.toml: windows: max_frames must be 1 or more"):
        load_settings(path, ClipsConfig)
