"""Tests of person detection and tracking, and of boxes from the ground truth of a render."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from opendimo.pipelines.people import track_person
from opendimo.pipelines.people.boxes import iou, main_person, overlap, people_counts
from opendimo.pipelines.people.camera_motion import STILL, camera_motion
from opendimo.pipelines.people.detector import Detector, DetectorConfig, Person
from opendimo.pipelines.people.follow import Follower, PeopleConfig, Traces
from opendimo.pipelines.people.mediapipe_pose import Body, Region
from opendimo.pipelines.people.truth import true_tracks
from opendimo.pipelines.people.visibility import Visibility
from opendimo.storage_schemas.media import video
from tests.pipelines.clip_sources import render_row


@pytest.fixture(scope="module")
def detector() -> Detector:
    return Detector(DetectorConfig())


def person(x: float, y: float = 10.0, width: float = 20.0, height: float = 60.0) -> Person:
    region = Region((x, y), (x, y - 1), 1.0)
    box = np.array([x, y, x + width, y + height], np.float32)
    return Person(box, Body(np.zeros((33, 3), np.float32), region), Visibility(1.0, 0.0, 0.0), region)


def nobody(_: Person) -> None:
    return None


def still_camera() -> np.ndarray:
    return STILL


def follow(looks: dict[int, list[Person]], patience: int = 10) -> Traces:
    traces = Traces(patience, max_people=6)
    for frame, people in looks.items():
        traces.update(frame, people, nobody, still_camera)
    return traces


# tracking


def test_two_people_keep_their_tracks_whatever_the_order_of_detection() -> None:
    looks = {k: [person(10 + k), person(100 - k)][:: 1 if k % 2 else -1] for k in range(0, 40, 4)}
    tracks = follow(looks).over(range(40), sigma=0).tracks
    starts = sorted(track[0, 0] for track in tracks)
    assert starts == [10, 100] and len(tracks) == 2
    right, left = sorted(tracks, key=lambda t: t[0, 0])
    assert np.allclose(right[:37, 0], 10 + np.arange(37)) and np.allclose(left[:37, 0], 100 - np.arange(37))


def test_boxes_between_looks_lie_on_the_line_and_end_at_the_next_look() -> None:
    looks = {0: [person(0)], 4: [person(8)], 8: [person(12)], 12: [], 16: []}
    (track,) = follow(looks, patience=4).over(range(20), sigma=0).tracks
    assert track[:9, 0].tolist() == [0, 2, 4, 6, 8, 9, 10, 11, 12]
    assert np.isfinite(track[:12, 0]).all() and np.isnan(track[12:]).all()


def test_who_is_seen_once_is_no_person() -> None:
    looks = {k: [person(10), *([person(200)] if k == 4 else [])] for k in range(0, 20, 4)}
    assert len(follow(looks).over(range(20), sigma=0).tracks) == 1


def test_a_gap_within_patience_is_filled_and_a_longer_one_is_not() -> None:
    looks = {0: [person(10)], 4: [person(10)], 8: [], 12: [person(10)], 16: [person(10)]}
    assert np.isfinite(follow(looks, patience=8).over(range(20), sigma=0).tracks).all()
    assert len(follow(looks, patience=4).over(range(20), sigma=0).tracks) == 2


def test_a_missed_person_gets_a_second_look_where_they_were() -> None:
    traces = Traces(10, max_people=6)
    traces.update(0, [person(10)], nobody, still_camera)
    boxes = traces.update(4, [], lambda p: person(14), still_camera)
    assert [b[0] for b in boxes] == [14]
    boxes = traces.update(8, [], lambda p: person(150), still_camera)  # another person
    assert boxes == []


def test_smoothing_takes_out_jitter_and_keeps_the_place() -> None:
    rng = np.random.default_rng(0)
    looks = {k: [person(50 + rng.normal())] for k in range(0, 120, 4)}
    traces = follow(looks)
    rough, smooth = (traces.over(range(120), sigma).tracks[0, :, 0] for sigma in (0, 6))
    assert np.abs(np.diff(smooth)).mean() < 0.4 * np.abs(np.diff(rough)).mean()
    assert abs(smooth.mean() - rough.mean()) < 0.2


# the camera moves


def through_a_camera(image: np.ndarray, x: float, y: float, degrees: float, zoom: float) -> tuple[np.ndarray, ...]:
    """Return the similarity [2, 3] of a camera that turns the image about its middle, and 70 % of its picture."""
    height, width = image.shape[:2]
    motion = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, zoom)
    motion[:, 2] += (x * width - 0.15 * width, y * height - 0.15 * height)
    picture = cv2.warpAffine(image, motion, (round(0.7 * width), round(0.7 * height)), borderMode=cv2.BORDER_REFLECT)
    return motion, picture


@pytest.mark.parametrize(
    ("x", "y", "degrees", "zoom"), [(0, 0, 0, 1), (0.05, -0.02, 0, 1), (-0.11, 0.1, 3, 1.0), (0.1, 0.05, -2, 1.08)]
)
def test_the_motion_of_the_camera_is_found(x: float, y: float, degrees: float, zoom: float) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (30, 40, 3)).astype(np.uint8)
    image = cv2.resize(noise, (640, 480), interpolation=cv2.INTER_CUBIC)
    at_rest, before = through_a_camera(image, 0, 0, 0, 1)
    moved, after = through_a_camera(image, x, y, degrees, zoom)
    points = np.float64([[50, 50, 1], [400, 60, 1], [220, 160, 1], [60, 300, 1]]).T  # of `before`
    scene = points[:2] - at_rest[:, 2:]
    wanted = moved[:, :2] @ scene + moved[:, 2:]
    assert np.abs(camera_motion(before, after) @ points - wanted).max() < 3


def test_a_flat_picture_stands_still() -> None:
    flat = np.full((90, 160, 3), 120, np.uint8)
    assert np.allclose(camera_motion(flat, flat), STILL, atol=1e-3)


def test_people_are_matched_after_the_motion_of_the_camera() -> None:
    shift = np.array([[1.0, 0, 100], [0, 1, 0]])
    traces = Traces(10, max_people=6)
    for frame, x in ((0, 10), (4, 110), (8, 10), (12, 110)):
        motion = shift if x > 50 else -shift + 2 * np.eye(2, 3)
        traces.update(frame, [person(x)], nobody, lambda motion=motion: motion)
    (track,) = traces.over(range(13), sigma=0).tracks
    assert np.isfinite(track).all()


@pytest.mark.parametrize("name", ["dance_balloon_static", "juggle_static_fullbody"])
def test_a_person_filmed_by_a_shaking_hand_is_one_track(data: Path, detector: Detector, name: str) -> None:
    images = video.decode(data / f"internet/{name}.mp4", stop=80, step=5, size=(854, 480))
    shaken = [
        through_a_camera(image, 0.14 * (-1) ** k, 0.1 * (k % 3 - 1), k % 4 - 2, 1)[1] for k, image in enumerate(images)
    ]
    follower = Follower(detector, PeopleConfig(), fps=6)
    for k, image in enumerate(shaken):
        follower.look(k, lambda image=image: image)
    (track,) = follower.over(range(len(shaken))).tracks
    assert np.isfinite(track).all()


# counting


def still(height: float, frames: int = 10, seen: int | None = None, width: float = 20.0) -> np.ndarray:
    track = np.tile(np.array([0, 0, width, height], np.float32), (frames, 1))
    track[frames if seen is None else seen :] = np.nan
    return track


def test_the_main_person_is_large_and_there() -> None:
    assert main_person(np.stack([still(60), still(100, seen=3), still(40)])) == 0
    assert main_person(np.empty((0, 10, 4), np.float32)) is None
    assert main_person(still(10, seen=0)[None]) is None


def test_people_count_from_half_the_size_of_the_main_person() -> None:
    # boxes of equal width; half the size is a quarter of the area
    assert people_counts(np.stack([still(100), still(26), still(24)]), 0).tolist() == [2] * 10
    assert people_counts(np.stack([still(100), still(90, seen=4)]), 0).tolist() == [2] * 4 + [1] * 6


def test_a_bystander_does_not_count_while_the_main_person_bends_down() -> None:
    upright, bent = still(180, width=60), still(90, width=120)
    bystander = still(80, width=30)
    main = np.concatenate([bent, upright[:8]])
    assert people_counts(np.stack([main, np.concatenate([bystander, bystander[:8]])]), 0).tolist() == [1] * 18


@given(st.lists(st.floats(0, 100), min_size=8, max_size=8))
def test_overlap_is_at_least_iou_and_both_are_shares(sides: list[float]) -> None:
    a, b = (np.array([x, y, x + w + 1, y + h + 1]) for x, y, w, h in (sides[:4], sides[4:]))
    assert 0 <= iou(a, b) <= overlap(a, b) <= 1 + 1e-9
    assert iou(a, a) == pytest.approx(1)


# truth


@pytest.mark.parametrize("sequence", ["mini_bedlam1/seq_000003", "mini_bedlam2/seq_000006", "mini_bedlam2/seq_000007"])
def test_true_boxes_hold_the_labelled_joints(data: Path, sequence: str) -> None:
    job, name = sequence.split("/")
    row, pixels = render_row(data / "ue5" / job, name)  # [P, T, J, 2]
    tracks = true_tracks(row["truth_joints"], row["world_to_camera"], row["K"], (1280, 720))
    assert tracks.shape == (*pixels.shape[:2], 4) and np.isfinite(tracks).all()
    seen = np.clip(pixels, 0, (1280, 720))
    assert (seen >= tracks[:, :, None, :2] - 0.01).all() and (seen <= tracks[:, :, None, 2:] + 0.01).all()
    extent = np.ptp(seen, axis=2)
    assert ((tracks[..., 2:] - tracks[..., :2]) <= extent + 0.21 * np.ptp(pixels, axis=2).max(-1, keepdims=True)).all()


def test_bodies_behind_the_camera_or_outside_the_frame_are_not_seen() -> None:
    K = np.array([[100, 0, 50], [0, 100, 50], [0, 0, 1]], np.float32)
    pose = np.eye(4, dtype=np.float32)[:3]
    body = np.random.default_rng(0).uniform(-0.2, 0.2, (22, 3)).astype(np.float32)
    places = np.array([[0, 0, 2], [0, 0, -2], [5, 0, 2]], np.float32)
    tracks = true_tracks(body + places[:, None, None], pose[None], K[None], (100, 100))
    assert np.isfinite(tracks[:, 0, 0]).tolist() == [True, False, False]


# detection on real frames


def test_the_box_covers_a_standing_man_from_hair_to_shoes(data: Path, detector: Detector) -> None:
    image = next(video.frames(data / "internet/juggle_static_fullbody.mp4"))
    people = detector.search(image)
    assert len(people) == 1
    x0, y0, x1, y1 = people[0].box
    assert x0 < 605 and y0 < 50 and x1 > 832 and y1 > 672  # read off the picture
    assert y1 - y0 < 1.2 * (672 - 50) and x1 - x0 < 1.8 * (832 - 605)


def test_small_people_are_found_in_tiles(data: Path, detector: Detector) -> None:
    image = next(video.frames(data / "internet/pedestrians_static_multi.mp4"))
    assert len(detector.glance(image)) == 0
    found = sorted(detector.search(image), key=lambda p: p.box[0])
    assert len(found) >= 4
    # three of the walkers, middle of the body read off the picture
    for x, y in [(388, 222), (526, 255), (702, 262)]:
        assert any(p.box[0] < x < p.box[2] and p.box[1] < y < p.box[3] for p in found)


def test_an_empty_picture_holds_nobody(detector: Detector) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (240, 320, 3)).astype(np.uint8)
    assert detector.search(noise) == [] and detector.search(np.zeros_like(noise)) == []


def test_track_person_follows_through_a_video(data: Path) -> None:
    clip = data / "internet/virtual_camera/pan_right.mp4"
    track = track_person(video.frames(clip), 24.0)
    assert track is not None and track.shape == (96, 4) and np.isfinite(track).all()
    middle = track[:, ::2].mean(1)
    assert middle[0] > 480 and middle[-1] < 330  # the camera turns right, the man goes left
    assert np.abs(np.diff(middle)).max() < 15
