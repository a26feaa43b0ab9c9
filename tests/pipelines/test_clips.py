"""Clips: which clips of real videos are kept, and that their rows match their pictures."""

import pickle
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from opendimo.pipelines.clips.cut import ClipsConfig, clips_of
from opendimo.pipelines.clips.stage import ClipsStage, duplicates, plan
from opendimo.pipelines.clips.windows import WindowsConfig
from opendimo.pipelines.engine.stage import DataError
from opendimo.pipelines.people.detector import Detector
from opendimo.pipelines.quality.policy import Policy
from opendimo.pipelines.quality.verdicts import kept_clips
from opendimo.storage_schemas.conventions import project, transform
from opendimo.storage_schemas.lake.lake import Lake
from opendimo.storage_schemas.lake.takedown import take_down
from opendimo.storage_schemas.media import video
from opendimo.storage_schemas.rows import arrow_to_rows
from tests.pipelines.clip_sources import render_row, source_row, start_of, verdict

CONFIG = ClipsConfig()


@pytest.fixture(scope="module")
def detector() -> Detector:
    return Detector(CONFIG.people.detector)


def moving(frames: int, seed: int, size: tuple[int, int] = (128, 96)) -> list[np.ndarray]:
    """Return moving pictures without people."""
    wide = np.random.default_rng(seed).integers(0, 255, (size[1] // 8, 60, 3)).astype(np.uint8)
    wide = wide.repeat(8, axis=0).repeat(8, axis=1)
    return [np.ascontiguousarray(wide[:, k : k + size[0]]) for k in range(frames)]


def write(path: Path, images: list[np.ndarray], fps: int = 24) -> Path:
    path.write_bytes(video.encode(images, Fraction(fps)))
    return path


# clips of real videos that are kept

KEPT = [
    "internet/juggle_static_fullbody.mp4",
    "internet/dance_balloon_static.mp4",
    "internet/generated_dance_indoor.mp4",
    *(f"internet/virtual_camera/{name}.mp4" for name in ("roll_cw", "shake", "zoom_in")),
    *(f"multiview/balance_1person_4cam/cam0{k}.mp4" for k in range(1, 5)),
]


@pytest.mark.parametrize("name", KEPT)
def test_a_video_of_one_person_is_kept_whole(data: Path, detector: Detector, tmp_path: Path, name: str) -> None:
    path = start_of(data / name, tmp_path, 40 if "virtual" in name else 30)
    rows = clips_of(source_row(path), CONFIG, detector)
    (clip,), (stored,) = rows["clips"], rows["clip_videos"]
    assert verdict(clip, Policy()) is None, clip
    assert clip["people"] == 1 and clip["person_share"] > 0.85
    frames = video.decode(bytes(stored["video"]))
    assert frames.shape == (clip["frames"], clip["height"], clip["width"], 3)
    assert clip["track"].shape == (clip["frames"], 4) and clip["video_sha256"] == stored["sha256"]


def test_a_crowd_is_filtered(data: Path, detector: Detector, tmp_path: Path) -> None:
    path = start_of(data / "internet/pedestrians_static_multi.mp4", tmp_path, 20, height=576)
    (clip,) = clips_of(source_row(path), CONFIG, detector)["clips"]
    assert verdict(clip, Policy()) == "several_people" and clip["people"] >= 3


def test_a_drawn_skeleton_is_no_clip_of_a_person(data: Path, detector: Detector, tmp_path: Path) -> None:
    path = start_of(data / "internet/driving_pose_dwpose.mp4", tmp_path, 30, height=704)
    (clip,) = clips_of(source_row(path), CONFIG, detector)["clips"]
    assert verdict(clip, Policy()) in {"no_person", "person_too_small"}


@pytest.mark.parametrize("number", range(8))
def test_renders_are_judged_by_their_truth(data: Path, number: int) -> None:
    row, pixels = render_row(data / "ue5/mini_bedlam2", f"seq_{number:06d}")
    (clip,) = clips_of(row, ClipsConfig(short_side=120), detector=None)["clips"]  # type: ignore[arg-type]
    assert verdict(clip, Policy()) is None, clip
    centre = np.clip(pixels[0], 0, (1280, 720)).mean(1) * (clip["width"] / 1280, clip["height"] / 720)  # [T, 2]
    low, high = clip["track"][:, :2], clip["track"][:, 2:]
    assert ((centre > low) & (centre < high)).all()


def test_two_people_of_a_render_are_several(data: Path) -> None:
    row, _ = render_row(data / "ue5/mini_bedlam1", "seq_000003")
    (clip,) = clips_of(row, ClipsConfig(short_side=120), detector=None)["clips"]  # type: ignore[arg-type]
    assert clip["people"] == 2 and verdict(clip, Policy()) == "several_people"


@pytest.mark.parametrize("height", [240, 480])
def test_two_drawn_people_of_a_plain_video_are_several(
    height: int, data: Path, detector: Detector, tmp_path: Path
) -> None:
    path = start_of(data / "ue5/mini_bedlam1/mp4/seq_000003.mp4", tmp_path, 24, height)
    (clip,) = clips_of(source_row(path), CONFIG, detector)["clips"]
    assert clip["second_share"] == 1 and verdict(clip, Policy()) == "several_people"


# rows


def test_two_videos_glued_together_are_two_clips(data: Path, detector: Detector, tmp_path: Path) -> None:
    parts = [("juggle_static_fullbody", 37), ("dance_balloon_static", 29)]
    images = [i for name, n in parts for i in video.decode(data / f"internet/{name}.mp4", stop=n, size=(640, 360))]
    rows = clips_of(source_row(write(tmp_path / "glued.mp4", images)), CONFIG, detector)
    assert [(c["start_frame"], c["end_frame"]) for c in rows["clips"]] == [(0, 35), (39, 66)]
    assert all(verdict(c, Policy()) is None for c in rows["clips"])
    second = video.decode(bytes(rows["clip_videos"][1]["video"]))
    assert np.abs(second[0].astype(int) - images[39]).mean() < 6 < np.abs(second[0].astype(int) - images[36]).mean()


def test_a_shot_without_people_is_a_row_without_video(tmp_path: Path, detector: Detector) -> None:
    config = ClipsConfig(windows=WindowsConfig(max_frames=20, min_rest=8))
    rows = clips_of(source_row(write(tmp_path / "a.mp4", moving(48, 1, (64, 48)))), config, detector)
    assert [c["frames"] for c in rows["clips"]] == [20, 20, 8] and not rows["clip_videos"]
    assert [verdict(c, Policy()) for c in rows["clips"]] == ["no_person", "no_person", "too_short"]
    assert all(c["video_sha256"] is None and c["track"] is None for c in rows["clips"])
    assert len(rows["clips"][0]["frame_hashes"]) == 1 and rows["clips"][0]["motion"] > 0.003  # 1 pixel a frame


def test_cameras_are_those_of_the_span_and_fit_the_stored_pixels(data: Path) -> None:
    row, pixels = render_row(data / "ue5/mini_bedlam2", "seq_000003")  # zooms in
    config = ClipsConfig(short_side=240, windows=WindowsConfig(max_frames=25, min_rest=1))
    for clip in clips_of(row, config, detector=None)["clips"]:  # type: ignore[arg-type]
        span = slice(clip["start_frame"], clip["end_frame"])
        sx, sy = clip["width"] / 1280, clip["height"] / 720
        seen = project(transform(row["truth_joints"][0, span], clip["world_to_camera"]), clip["K"])
        wanted = pixels[0, span] * (sx, sy)
        assert clip["K"].shape == (clip["frames"], 3, 3) and np.abs(seen - wanted).max() < 0.02


def test_one_camera_for_all_frames_is_repeated(tmp_path: Path, detector: Detector) -> None:
    K, pose = np.eye(3, dtype=np.float32)[None], np.eye(4, dtype=np.float32)[None, :3]
    row = source_row(write(tmp_path / "a.mp4", moving(9, 1)), K=K, world_to_camera=pose, distortion=[0.1], metric=True)
    (clip,) = clips_of(row, CONFIG, detector)["clips"]
    assert clip["K"].shape == (9, 3, 3) and clip["world_to_camera"].shape == (9, 3, 4)
    assert clip["distortion"] == [0.1] and clip["metric"] is True


@pytest.mark.parametrize("cameras", [7, 12])
def test_cameras_for_another_number_of_frames_are_refused(tmp_path: Path, detector: Detector, cameras: int) -> None:
    row = source_row(write(tmp_path / "a.mp4", moving(9, 1)), K=np.tile(np.eye(3, dtype=np.float32), (cameras, 1, 1)))
    with pytest.raises(DataError, match=f"9 frames were decoded, but its cameras have {cameras}"):
        clips_of(row, CONFIG, detector)


def test_a_frame_of_another_size_than_the_row_says_is_refused(tmp_path: Path, detector: Detector) -> None:
    row = source_row(write(tmp_path / "a.mp4", moving(9, 1)), width=96, height=128)
    with pytest.raises(DataError, match="frame 0 is 128x96, the source table says 96x128"):
        clips_of(row, CONFIG, detector)


def test_a_turned_source_gives_upright_clips(tmp_path: Path, detector: Detector) -> None:
    row = source_row(write(tmp_path / "a.mp4", moving(9, 1)), width=96, height=128, rotation=90)
    (clip,) = clips_of(row, CONFIG, detector)["clips"]
    assert (clip["width"], clip["height"]) == (96, 128)


# the stage


def test_the_stage_turns_sources_into_rows_of_the_lake(data: Path, tmp_path: Path) -> None:
    good = source_row(data / "internet/virtual_camera/static.mp4", capture_id="c")
    copy = {**good, "source_id": "f" * 32}
    broken = source_row(write(tmp_path / "a.mp4", moving(9, 1)), capture_id="c")
    Path(broken["local_path"]).write_bytes(b"no video")
    gone = source_row(write(tmp_path / "b.mp4", moving(9, 2)))
    lake = Lake(tmp_path / "lake")
    lake.append("sources", {"sources": [good, copy, broken, gone]})
    take_down(lake, "source_id", gone["source_id"], "asked for", "a test")

    stage = pickle.loads(pickle.dumps(ClipsStage(lake.uri, CONFIG)))
    works = plan(lake, stage).all()
    assert {w.item_id for w in works} == {good["source_id"], broken["source_id"]}
    assert duplicates(lake) == 1
    stage.setup()
    outcome = stage.run(works)
    outcome.check(works)
    (reject,) = outcome.rejects
    assert reject.error_class == "data" and reject.item_id == broken["source_id"]

    lake.append("clips", outcome.rows)
    (clip,) = arrow_to_rows(kept_clips(lake, Policy(), ["track", "source_id"]))
    assert clip["track"].shape == (96, 4) and clip["source_id"] == good["source_id"]
    (data_bytes,) = lake.blobs("clip_videos", "video", [clip["clip_id"]])
    assert len(video.decode(data_bytes)) == 96
    assert plan(lake, stage).all() == works
    assert set(lake.column("clips", "work_key").to_pylist()) <= {w.key for w in works}


def test_another_config_is_other_work_and_other_clips(tmp_path: Path, detector: Detector) -> None:
    row = source_row(write(tmp_path / "a.mp4", moving(9, 1)))
    lake = Lake(tmp_path / "lake")
    lake.append("sources", {"sources": [row]})
    other = ClipsConfig(short_side=64)
    keys = {plan(lake, ClipsStage(lake.uri, c)).all()[0].key for c in (CONFIG, other)}
    ids = {clips_of(row, c, detector)["clips"][0]["clip_id"] for c in (CONFIG, other, CONFIG)}
    assert len(keys) == 2 and len(ids) == 2
