"""Tests of offsets and residuals on synthetic and real rigs, including cases that cannot be determined."""

import csv
from pathlib import Path

import av
import numpy as np
import pytest

from opendimo.pipelines.engine.stage import DataError
from opendimo.pipelines.rigs.audio import from_audio, onsets
from opendimo.pipelines.rigs.board import read_board, see_board
from opendimo.pipelines.rigs.epipolar import Seen
from opendimo.pipelines.rigs.gravity import body_length, gravity
from opendimo.pipelines.rigs.motion import from_motion
from opendimo.pipelines.rigs.offsets import Offsets, settle
from opendimo.pipelines.rigs.times import from_times
from opendimo.pipelines.rigs.verdicts import Limits, check, in_time, judge
from opendimo.pipelines.rigs.views import RigView, Sampling
from opendimo.pipelines.sources.calibrations import read_calibration
from tests.pipelines.rig_views import DOWN, body, ring, seen, view


def verdicts(views: list[Seen], offsets: Offsets | None) -> dict[str, dict]:
    checked = check(in_time(views, offsets), Limits())
    return {row["view"]: row for row in judge(views, offsets, checked, Limits())}


@pytest.mark.parametrize("late", [[0, 0, 2.3, 0], [0, -3.5, 0, 1.2, 0], [0, 0, 0], [0, 6]])
def test_motion_tells_how_late_each_view_is(late: list[float]) -> None:
    found = from_motion(seen(late), reach=10)
    assert found is not None and found.estimator == "motion"
    assert found.frames == pytest.approx(np.array(late) - np.median(late), abs=0.3)
    assert (found.residual < 0.5).all()


def test_who_stands_still_tells_no_time() -> None:
    assert from_motion(seen([0, 0, 2], moves=False), reach=10) is None


def test_a_late_view_is_called_late_and_is_fine_once_it_is_in_time() -> None:
    views = seen([0, 0, 2, 0])
    rows = verdicts(views, from_motion(views, reach=10))
    assert {name: row["verdict"] for name, row in rows.items()} == dict.fromkeys(["cam0", "cam1", "cam3"], "ok") | {
        "cam2": "late"
    }
    assert "2.0 frames late by motion" in rows["cam2"]["note"]
    assert rows["cam2"]["residual_px"] == pytest.approx(rows["cam0"]["residual_px"], abs=1)
    assert 0.5 < rows["cam0"]["residual_px"] < 4 and rows["cam0"]["epipolar_px"] < 4  # the noise is 2 px


@pytest.mark.parametrize("count", [3, 4])
def test_a_view_that_was_moved_is_quarantined_alone(count: int) -> None:
    views = seen([0] * count, askew={1: 4.0})
    rows = verdicts(views, from_motion(views, reach=10))
    assert [row["verdict"] for row in rows.values()] == ["ok", "quarantined", *["ok"] * (count - 2)]
    assert rows["cam1"]["residual_px"] > 40 and rows["cam1"]["offset_frames"] is None
    assert rows["cam0"]["residual_px"] < 4


def test_a_view_that_was_looked_at_when_it_is_due_is_checked_whatever_its_offset() -> None:
    late = [0, 0, 60.4, 0]
    offsets = Offsets("audio", np.array(late), np.zeros(4))
    rows = verdicts(seen(late, askew={1: 4.0}, shifts=[0, 0, 60, 0]), offsets)
    assert [row["verdict"] for row in rows.values()] == ["ok", "quarantined", "late", "ok"]
    assert rows["cam2"]["observations"] > 1000 and rows["cam2"]["residual_px"] < 4


def test_of_two_views_that_differ_neither_is_trusted() -> None:
    views = seen([0, 0], askew={1: 8.0})
    views = [Seen(one.view, one.frames, one.points + np.array([0, 90.0 * k, 0])) for k, one in enumerate(views)]
    rows = verdicts(views, None)
    assert [row["verdict"] for row in rows.values()] == ["quarantined"] * 2
    assert "unknown which is wrong" in rows["cam0"]["note"]


def test_a_view_that_sees_nothing_is_unchecked() -> None:
    views = seen([0, 0, 0])
    views[2] = Seen(views[2].view, views[2].frames, np.zeros_like(views[2].points))
    rows = verdicts(views, from_motion(views, reach=10))
    assert [row["verdict"] for row in rows.values()] == ["ok", "ok", "unchecked"]
    assert rows["cam2"]["observations"] == 0 and rows["cam2"]["offset_frames"] is None


def test_pairs_outvote_one_wrong_pair() -> None:
    truth = np.array([0.0, 1.5, -2.0, 0.0])
    pairs = truth[:, None] - truth[None]
    pairs[0, 1], pairs[1, 0] = 7, -7
    found = settle("audio", pairs)
    assert found is not None and found.frames == pytest.approx(truth - np.median(truth), abs=0.02)
    assert settle("audio", np.full((3, 3), np.nan)) is None


def test_timestamps_tell_offsets_between_frames() -> None:
    clock = 5 + np.arange(60) / 30
    views = [view(str(k), ring(3)[k], times=clock - late / 30) for k, late in enumerate([0, 0, 1.5])]
    found = from_times(views)
    assert found is not None and found.frames == pytest.approx([0, 0, 1.5], abs=1e-6)
    assert found.residual == pytest.approx([0, 0, 0], abs=1e-6)
    slow = [*views[:2], view("slow", ring(3)[2], times=5 + np.arange(60) / 25)]
    assert from_times(slow).residual[2] > 1  # a slow camera has no constant offset, so a large residual
    assert from_times([*views[:2], view("x", ring(3)[2])]) is None


def sound(path: Path, shift: float, seed: int = 0) -> RigView:
    """Write a video of four seconds at 30 frames per second, with noise and claps that are `shift` seconds late."""
    rng = np.random.default_rng(seed)
    rate = 16000
    times = np.arange(4 * rate) / rate
    clap_times = np.random.default_rng(int(path.stem[0] == "x") * 77).uniform(0.2, 3.6, 9) + shift
    wave_ = 0.02 * rng.normal(size=len(times))
    for clap in clap_times:
        wave_ += np.where(times >= clap, np.exp(-(times - clap) * 40) * np.sin(times * 6000), 0)
    pcm = (np.clip(wave_, -1, 1) * 30000).astype(np.int16)
    with av.open(str(path), "w") as container:
        video, audio = container.add_stream("libx264", rate=30), container.add_stream("aac", rate=rate)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        for _ in range(120):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 90, np.uint8), format="rgb24")
            container.mux(video.encode(frame))
        block = av.AudioFrame.from_ndarray(pcm[None], format="s16", layout="mono")
        block.sample_rate = rate
        container.mux(audio.encode(block))
        container.mux(audio.encode())
        container.mux(video.encode())
    return view(path.stem, ring(2)[0], path=str(path))


def test_sound_tells_offsets(tmp_path: Path) -> None:
    shifts = [0.0, 0.13, -0.2]
    found = from_audio([sound(tmp_path / f"{k}.mp4", shift, seed=k) for k, shift in enumerate(shifts)])
    assert found is not None and found.estimator == "audio"
    assert found.frames == pytest.approx(np.array(shifts) * 30, abs=0.15)


def test_other_sound_and_no_sound_tell_nothing(tmp_path: Path, data: Path) -> None:
    views = [sound(tmp_path / "0.mp4", 0), sound(tmp_path / "x.mp4", 0, seed=1)]
    assert from_audio(views) is None
    silent = view("s", ring(2)[1], path=str(data / "multiview" / "desk_board_4cam" / "cam_0.mp4"))
    assert from_audio([views[0], silent]) is None


def test_sound_that_begins_years_from_the_pictures_is_not_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "late.mov"
    with av.open(str(path), "w") as container:
        video, audio = container.add_stream("libx264", rate=30), container.add_stream("pcm_s16le", rate=8000)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        container.mux(video.encode(av.VideoFrame(64, 48, "yuv420p")))
        container.mux(video.encode())
        for k in range(8):
            frame = av.AudioFrame.from_ndarray(np.full((1, 4000), 1000 * k, np.int16), format="s16", layout="mono")
            frame.sample_rate, frame.pts = 8000, 8000 * 10**8 + 4000 * k
            container.mux(audio.encode(frame))
        container.mux(audio.encode())
    assert onsets(str(path)) is None


def test_sound_of_files_that_a_file_names_is_not_heard(tmp_path: Path) -> None:
    sound(tmp_path / "real.mp4", 0)
    (tmp_path / "list.mp4").write_text("ffconcat version 1.0\nfile real.mp4\n")
    assert onsets(str(tmp_path / "real.mp4")) is not None
    assert onsets(str(tmp_path / "list.mp4")) is None


def test_upright_people_tell_where_down_is() -> None:
    points = np.concatenate([body(np.arange(30) / 30), np.ones((30, 33, 1))], 2)
    down, spread = gravity(points) or (np.zeros(3), np.inf)
    assert np.degrees(np.arccos(down @ DOWN)) < 2 and spread < 3
    assert body_length(points) == pytest.approx(1.34, abs=0.02)
    bent = points.copy()
    bent[:, 11:13, 0] += 0.5
    assert gravity(bent) is None
    assert gravity(points[:5]) is None


def corners(data: Path) -> tuple[list[Seen], dict[int, np.ndarray]]:
    """Return the board corners that the calibration tool detected, per view in pixels, and in 3-D by frame."""
    folder = data / "multiview" / "desk_board_4cam"
    calibration = read_calibration(folder / "camera_array.toml")
    world: dict[int, np.ndarray] = {k: np.full((12, 3), np.nan) for k in range(57)}
    with (folder / "board_corners_3d.csv").open() as stream:
        for r in csv.DictReader(stream):
            world[int(r["sync_index"]) - 35][int(r["keypoint_id"])] = [float(r[f"{axis}_coord"]) for axis in "xyz"]
    points = {name: np.zeros((1, 57, 12, 3)) for name in calibration.cameras}
    with (folder / "board_corners_2d.csv").open() as stream:
        for r in csv.DictReader(stream):
            place = points[r["cam_id"]][0, int(r["sync_index"]) - 35, int(r["keypoint_id"])]
            place[:] = float(r["img_loc_x"]) + 0.5, float(r["img_loc_y"]) + 0.5, 1
    views = []
    for name, seen_2d in points.items():
        camera = calibration.camera(name)
        camera_view = view(name, camera.world_to_camera[0], K=camera.K, distortion=camera.distortion, size=camera.size)
        frames = np.arange(57)[None]
        views.append(Seen(camera_view, frames, camera_view.pinhole(seen_2d[0], frames[0])[None]))
    return views, world


def test_residuals_of_the_real_board_are_those_stated(data: Path) -> None:
    """Compare with the data's README (median reprojection of 0.7 to 1.4 px per camera) and the tool's 3-D points."""
    views, world = corners(data)
    found = check(views, Limits())
    assert all(found.trusted)
    stated = []
    for one in views:
        camera = one.view.world_to_camera[0]
        image = np.stack([world[k] for k in range(57)]) @ camera[:, :3].T + camera[:, 3]
        off = np.linalg.norm((image @ one.view.K[0].T)[..., :2] / image[..., 2:] - one.points[0, ..., :2], axis=-1)
        stated.append(np.nanmedian(np.where(one.points[0, ..., 2] > 0, off, np.nan)))
    assert ((np.array(stated) > 0.7) & (np.array(stated) < 1.5)).all()
    assert found.residuals.reprojection == pytest.approx(stated, abs=0.4)
    truth = np.stack([world[k] for k in range(57)])
    points = found.residuals.points[0]
    both = np.isfinite(truth[..., 0]) & (points[..., 3] > 0)
    assert both.sum() > 400
    assert np.median(np.linalg.norm(points[both][:, :3] - truth[both], axis=1)) < 0.004


def test_a_moved_camera_is_found_by_the_board(data: Path) -> None:
    views, _ = corners(data)
    pose = views[2].view.world_to_camera.copy()
    pose[:, 0, 3] += 0.1
    views[2] = Seen(view("2", pose[0], K=views[2].view.K), views[2].frames, views[2].points)
    assert check(views, Limits()).trusted == [True, True, False, True]


def test_the_board_is_found_where_its_tool_found_it(data: Path) -> None:
    folder = data / "multiview" / "desk_board_4cam"
    board = read_board(folder / "charuco.toml")
    assert (board.corners, len(board.neighbours())) == (12, 17) and board.square == pytest.approx(0.054)
    frames = np.array([[4, 5, 6]])
    own = view("2", ring(1)[0], path=str(folder / "cam_2.mp4"))
    found = see_board(own, frames, board)[0]
    with (folder / "board_corners_2d.csv").open() as stream:
        rows = [r for r in csv.DictReader(stream) if r["cam_id"] == "2" and int(r["sync_index"]) - 35 in (4, 5, 6)]
    off = [
        np.linalg.norm(found[int(r["sync_index"]) - 39, int(r["keypoint_id"]), :2] - 0.5
                       - [float(r["img_loc_x"]), float(r["img_loc_y"])])
        for r in rows
    ]  # fmt: skip
    assert len(off) > 10 and np.median(off) < 0.5


HUGE = 'columns = 4\nrows = 999\ndictionary = "DICT_4X4_50"\naruco_scale = 0.5'


@pytest.mark.parametrize("text", ["", "columns = 4", HUGE, HUGE.replace("DICT_4X4_50", "detectMarkers")])
def test_a_board_that_is_none_is_a_data_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "charuco.toml").write_text(text)
    with pytest.raises(DataError, match="ChArUco"):
        read_board(tmp_path / "charuco.toml")


def test_a_bounded_number_of_frames_is_looked_at() -> None:
    long = [view("a", ring(1)[0], frames=10**6)]
    frames = Sampling(2, 48, 20).moments(long, np.array([0]))
    assert frames.shape == (2, 48) and frames.max() < 20 * 30
    with pytest.raises(DataError, match="too few"):
        Sampling().moments([view("a", ring(1)[0], frames=3)], np.array([0]))


def test_late_views_are_looked_at_when_all_show_the_same() -> None:
    views = [view("a", ring(1)[0], frames=frames) for frames in (100, 200, 70)]
    shifts = np.array([0, 60, -30])
    moments = Sampling(2, 48, 20).moments(views, shifts)
    assert (moments.min(), moments.max()) == (30, 99)  # first moment of the third view, last moment of the first
    for one, shift in zip(views, shifts, strict=True):
        assert (moments + shift).min() >= 0 and (moments + shift).max() < one.frames


def test_a_view_that_shares_nothing_keeps_nobody_from_being_looked_at() -> None:
    views = [view(name, ring(1)[0], frames=100) for name in "abc"]
    moments = Sampling(2, 48, 20).moments(views, np.array([0, 0, 5000]))
    assert (moments.min(), moments.max()) == (0, 99)
