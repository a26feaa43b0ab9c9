"""Driving clips in all supported forms."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from opendimo.model.driving.crops import driving_crops
from opendimo.model.driving.framing import Framing
from opendimo.model.driving.person import Person
from opendimo.model.encoder.config import ENCODERS
from opendimo.model.pipeline import plugs
from opendimo.model.pipeline.footage import open_footage, scale_of
from tests.model.pipelines import driving

T, H, W = 9, 48, 96


def film() -> np.ndarray:
    """Draw a bright figure that walks to the right in front of a dark wall [T, H, W, 3]."""
    frames = np.random.default_rng(0).integers(0, 60, (T, H, W, 3), dtype=np.uint8)
    for t in range(T):
        frames[t, 12:40, 8 + 6 * t : 18 + 6 * t] = 250
    return frames


def find_bright(frames: np.ndarray, fps: float, poses: bool) -> Person:
    """Find a bright person, with all joints near the upper left corner of its box."""
    bright, n = frames.min(axis=3) > 128, len(frames)
    if not bright.any():
        raise ValueError(f"nobody is seen in {n} frames at {fps:g} a second")
    track = np.full((n, 4), np.nan, np.float32)
    joints = np.ones((n, 52, 3), np.float32)
    for t in np.flatnonzero(bright.any(axis=(1, 2))):
        y, x = np.nonzero(bright[t])
        track[t] = x.min(), y.min(), x.max() + 1, y.max() + 1
        joints[t, :, :2] = track[t, :2] + np.arange(52)[:, None] % 4
    return Person(
        track=track,
        K=np.tile(np.array([[100, 0, W / 2], [0, 100, H / 2], [0, 0, 1]], np.float32), (n, 1, 1)),
        joints_2d=joints,
        landmarks_2d=joints,
        joints_3d=np.full((n, 52, 3), np.nan, np.float32),
        body_pose=np.zeros((n, 21, 3), np.float32),
        hand_pose=np.zeros((n, 2, 15, 3), np.float32),
        valid=np.full(n, poses),
        hand_valid=np.ones((n, 2), np.float32),
    )


def late_film(enters: int, frames: int) -> np.ndarray:
    """Draw a dark room [frames, H, W, 3] that the bright figure enters at a frame."""
    room = np.random.default_rng(0).integers(0, 60, (frames, H, W, 3), dtype=np.uint8)
    room[enters:, 12:40, 30:40] = 250
    return room


def read(path: Path, count: int, rate: float | None) -> tuple[np.ndarray, Fraction]:
    """Return a video of 24 frames per second, or of 12 if that rate is requested."""
    every = 2 if rate == 12 else 1
    return film()[::every][:count], Fraction(24, every)


def opened(given: Any, count: int = T, **changes: Any) -> Any:
    arguments = {
        "fps": Fraction(24),
        "frame_step": 1,
        "rate": None,
        "encoder": ENCODERS["tiny"],
        "size": (64, 64),
        "poses": False,
        "read_video": read,
        "find_person": find_bright,
    }
    return open_footage(given, count, **{**arguments, **changes})


def test_frames_in_any_form_are_the_same_driving() -> None:
    frames = film()
    tensor = torch.from_numpy(frames).permute(0, 3, 1, 2) / 255
    forms = [frames, tensor, [Image.fromarray(frame) for frame in frames], "dance.mp4", Path("dance.mp4")]
    windows = [opened(form).window(slice(0, T)) for form in forms]
    for window in windows[1:]:
        assert torch.equal(window.body, windows[0].body) and torch.equal(window.hands, windows[0].hands)
    assert windows[0].body.shape == (1, T, 3, 32, 32) and windows[0].hands.shape == (1, T, 2, 3, 16, 16)


def test_people_are_cropped_as_in_training_anew_in_each_window() -> None:
    frames, person = film(), find_bright(film(), 24, False)
    for chosen in (slice(0, 5), slice(4, 9)):
        window = opened(frames).window(chosen)
        track, joints, hands = (person[name][chosen] for name in ("track", "joints_2d", "hand_valid"))
        expected = driving_crops(frames[chosen], track, joints, hands, ENCODERS["tiny"])
        for name, value in expected._asdict().items():
            assert torch.equal(getattr(window, name)[0], value / 255 if value.dtype == torch.uint8 else value)


def test_of_a_file_every_step_th_frame_is_followed_and_of_frames_each() -> None:
    skipping = opened("dance.mp4", count=5, frame_step=2)
    assert (skipping.fps, len(skipping.frames)) == (Fraction(12), 5)
    assert np.array_equal(skipping.frames, film()[::2])
    assert len(skipping.person["track"]) == 5
    assert np.array_equal(opened(film(), count=5, frame_step=2).frames, film()[:5])


def test_of_a_file_as_many_frames_a_second_are_followed_as_in_training() -> None:
    slower = opened("dance.mp4", count=5, frame_step=2, rate=12.0)
    assert slower.fps == 12 and np.array_equal(slower.frames, film()[::2])
    assert len(slower.person["track"]) == 5


def test_joints_and_camera_are_counted_in_the_part_that_has_the_shape_of_the_video() -> None:
    window, person = opened(film()).window(slice(0, T)), find_bright(film(), 24, False)
    expected = Framing.of((W, H), (64, 64)).points(person["joints_2d"])
    np.testing.assert_allclose(window.joints_2d[0].numpy(), expected)
    assert window.K[0, 0].tolist() == pytest.approx(np.array([[100 / 48, 0, 0.5], [0, 100 / 48, 0.5], [0, 0, 1]]))


def test_poses_are_asked_for_where_the_control_reads_them_and_what_is_unknown_is_finite() -> None:
    for poses in (True, False):
        window = opened(film(), poses=poses).window(slice(0, T))
        assert bool(window.pose_ok.all()) == bool(window.hands_pose_ok.all()) == poses
        assert window.joints_3d.isfinite().all()


def test_what_is_prepared_is_taken_as_it_is() -> None:
    given = driving(T)
    assert torch.equal(opened(given, count=5).window(slice(1, 5)).body, given.body[:, 1:5])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (film()[:5], "the driving frames: 9 frames are needed, but there are 5; give more, or lower num_frames"),
        (np.zeros((T, H, W, 3), np.uint8), "the driving frames: nobody is seen .*; choose another driving video"),
        (film().astype(np.float32), r"not ndarray \[9, 48, 96, 3\] of float32"),
        (torch.full((T, 3, H, W), 2.0), r"driving tensors must be in \[0, 1\], not 2 to 2: scale it"),
        (torch.zeros(T, H, W, 3), r"not Tensor \[9, 48, 96, 3\] of torch\.float32"),
        ([], "not list"),
        (7, "not int"),
        ([Image.new("RGB", (8, 8)), Image.new("RGB", (8, 9))], r"of sizes \[\(8, 8\), \(8, 9\)\]: give images of one"),
        (driving(5), r"one sample and 9 frames is needed, not of \[B, T\] = \[1, 5\]"),
    ],
)
def test_what_cannot_drive_is_refused_with_a_way_out(given: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        opened(given)


@pytest.mark.parametrize("enters", [7, 12, 36])
def test_the_motion_begins_where_a_person_is_first_seen(enters: int, caplog: pytest.LogCaptureFixture) -> None:
    frames = late_film(enters, 60)
    reads: list[float] = []

    def read_late(path: Path, count: int, rate: float | None, start: float = 0.0) -> tuple[np.ndarray, Fraction]:
        reads.append(start)
        part = frames[round(start * 24) :][:count]
        if len(part) < count:
            raise ValueError(f"{path} ends too early")
        return part, Fraction(24)

    for given in (frames, "late.mp4"):
        caplog.clear()
        footage = opened(given, read_video=read_late)
        assert footage.start == pytest.approx(enters / 24)
        assert np.array_equal(footage.frames, frames[enters : enters + T])
        assert f"the motion begins at {enters / 24:.2f} s, where a person is first seen" in caplog.text
    assert reads[0] == 0 and reads[-1] == pytest.approx(enters / 24)


def test_a_given_start_is_kept_and_said_nothing_about(caplog: pytest.LogCaptureFixture) -> None:
    frames = late_film(7, 60)
    for start, first in ((0, 0), (0.5, 12)):
        footage = opened(frames, start=start)
        assert footage.start == start and np.array_equal(footage.frames, frames[first : first + T])
    given = driving(T)
    prepared = opened(given, count=5, start=2 / 24)
    assert torch.equal(prepared.window(slice(0, 5)).body, given.body[:, 2:7]) and prepared.start == pytest.approx(
        2 / 24
    )
    assert not caplog.text
    with pytest.raises(ValueError, match=r"9 frames are needed from 3 s on, but there are 0"):
        opened(frames, start=3)
    with pytest.raises(ValueError, match=r"start is -1: give the seconds"):
        opened(frames, start=-1)


def test_a_person_who_is_seen_too_late_for_enough_frames_is_taken_as_seen(caplog: pytest.LogCaptureFixture) -> None:
    footage = opened(late_film(7, T + 3))
    assert footage.start == 0 and len(footage.frames) == T
    assert "the person is not seen before 0.29 s, and too few frames follow" in caplog.text


@pytest.mark.parametrize(("height", "factor"), [(28, None), (14, 2.0), (48, 28 / 48)])
def test_people_of_very_different_sizes_are_told_with_the_factor(
    height: int, factor: float | None, caplog: pytest.LogCaptureFixture
) -> None:
    def find(frames: np.ndarray, fps: float, poses: bool) -> Person:
        """Find the bright figure; its torso is a third of its height."""
        person = find_bright(frames, fps, True)
        track = person["track"]
        for joint, share in ((0, 0.5), (12, 0.5 - 1 / 3)):
            person["joints_2d"][:, joint, 0] = track[:, 0]
            person["joints_2d"][:, joint, 1] = track[:, 1] + share * (track[:, 3] - track[:, 1])
        return person

    reference = np.zeros((2 * H, 2 * W, 3), np.uint8)  # twice as many pixels: the same picture after the crop
    reference[: 2 * height, 40:60] = 250
    footage = opened(film(), find_person=find)
    assert scale_of(footage, Image.fromarray(reference), find) == pytest.approx(factor or 1.0, abs=0.05)
    told = f"{factor:.2f} times as large" in caplog.text if factor else not caplog.text
    assert told
    assert scale_of(footage, Image.new("RGB", (W, H)), find) is None  # nobody is seen in the reference


def test_where_no_finder_is_installed_the_error_says_what_to_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugs, "entry_points", lambda group: [])
    with pytest.raises(ValueError, match=r"nothing is installed as opendimo\.person_finder.*or pass find_person="):
        opened(film(), find_person=None)
    with pytest.raises(ValueError, match=r"nothing is installed as opendimo\.video_reader.*or pass read_video="):
        opened("dance.mp4", read_video=None)
