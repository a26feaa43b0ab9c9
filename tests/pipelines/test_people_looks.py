"""Which frames are searched for people: fewer while the same ones stay, with the same tracks."""

import math
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from opendimo.pipelines.people import follow
from opendimo.pipelines.people.boxes import iou
from opendimo.pipelines.people.detector import Detector, DetectorConfig, Person
from opendimo.pipelines.people.follow import STRIDE, Follower, PeopleConfig
from opendimo.pipelines.people.mediapipe_pose import Body, Region
from opendimo.pipelines.people.visibility import Visibility
from opendimo.storage_schemas.media import video

FPS = 6  # every frame is a look
Scene = Callable[[int], list[tuple[float, float]]]


class Scripted:
    """A detector that knows where people are in each picture, whose first value is the number of the frame."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.searched: list[int] = []
        self.glanced: list[int] = []
        self.outlined: list[int] = []

    def people(self, image: np.ndarray) -> list[Person]:
        region = Region((0, 0), (0, -1), 1.0)
        bodies = [np.array([x, 10, x + 20, 10 + height], np.float32) for x, height in self.scene(int(image[0, 0, 0]))]
        body, seen = Body(np.zeros((33, 3), np.float32), region), Visibility(1.0, 0.0, 0.0)
        return [Person(box, body, seen, region) for box in bodies]

    def search(self, image: np.ndarray) -> list[Person]:
        self.searched.append(int(image[0, 0, 0]))
        return self.people(image)

    def glance(self, image: np.ndarray) -> list[Person]:
        self.glanced.append(int(image[0, 0, 0]))
        return self.people(image)

    def again(self, image: np.ndarray, person: Person) -> Person | None:
        self.outlined.append(int(image[0, 0, 0]))
        near = [p for p in self.people(image) if iou(p.box, person.box) > 0.2]
        return near[0] if near else None


def followed(
    scene: Scene, frames: int = 22, still: bool = False
) -> tuple[Scripted, np.ndarray, dict[int, list[np.ndarray]]]:
    """Follow the people of `scene`, who are drawn before noise that changes in each frame unless it is `still`."""
    detector = Scripted(scene)
    follower = Follower(detector, PeopleConfig(smoothing=0), FPS)  # type: ignore[arg-type]
    boxes: dict[int, list[np.ndarray]] = {}
    for k in range(frames):
        image = np.random.default_rng(0 if still else k).integers(0, 128, (90, 160, 3), np.uint8)
        for x, height in scene(k):
            image[10 : 10 + int(height), int(x) : int(x) + 20] = 255
        image[0, 0] = k
        follower.look(k, lambda image=image: image, lambda found, k=k: boxes.update({k: found}))
    return detector, follower.over(range(frames)).tracks, boxes


def test_a_person_who_walks_evenly_is_looked_for_in_every_fourth_look_and_once_between() -> None:
    detector, (track,), boxes = followed(lambda k: [(10.0 + k, 60.0)])
    assert np.allclose(track[:, 0], 10 + np.arange(22)) and sorted(boxes) == list(range(22))
    assert all(np.allclose(found[0][0], 10 + k) for k, found in boxes.items())
    assert detector.searched == [0, 12] and detector.glanced == [1, 5, 9, 16, 20, 21]
    assert len(detector.outlined) <= 6


def test_who_turns_back_is_looked_at_in_every_look() -> None:
    back_and_forth = 10 + 1.5 * np.abs((np.arange(22) + 4) % 8 - 4)
    detector, (track,), _ = followed(lambda k: [(back_and_forth[k], 60.0)])
    assert np.allclose(track[:, 0], back_and_forth)
    assert len(detector.searched + detector.glanced) <= 8


def test_before_a_still_background_the_whole_frame_is_searched_once() -> None:
    detector, (track,), _ = followed(lambda k: [(10.0 + k / 4, 60.0)], still=True, frames=40)
    assert np.allclose(track[:, 0], 10 + np.arange(40) / 4)
    assert detector.searched == [0] and detector.glanced == [1]  # a person is steady from the second look on


def test_who_walks_away_from_where_they_were_searched_for_is_followed() -> None:
    _, (track,), _ = followed(lambda k: [(10.0 + 3 * k, 60.0)], still=True, frames=40)
    assert np.allclose(track[:, 0], 10 + 3 * np.arange(40))


@pytest.mark.parametrize("still", [True, False])
@pytest.mark.parametrize(("first", "last"), [(7, 16), (6, 12), (8, 11)])
def test_who_comes_and_goes_is_seen_in_the_same_looks_as_before(first: int, last: int, still: bool) -> None:
    """Somebody of two thirds the height stands beside the main person from look `first` to before look `last`."""
    others = {k: [(100.0, 40.0)] for k in range(first, last)}
    _, tracks, boxes = followed(lambda k: [(10.0, 60.0), *others.get(k, [])], still=still)
    seen = sorted(np.flatnonzero(np.isfinite(track[:, 0])).tolist() for track in tracks)
    if last - first < STRIDE:  # may lie between two detections
        assert seen[0] == list(range(22))
    else:
        assert seen == [list(range(22)), list(range(first, last))]
        assert [len(boxes[k]) for k in range(22)] == [1 + (first <= k < last) for k in range(22)]


def test_nothing_is_looked_at_between_the_same_several_people_nor_are_tiles_searched() -> None:
    detector, tracks, _ = followed(lambda k: [(10.0 + k, 60.0), (100.0 - k, 50.0)], frames=40)
    assert len(tracks) == 2 and np.isfinite(tracks).all()
    assert detector.searched == [0] and not detector.outlined and len(detector.glanced) <= 40 // STRIDE + 2


def test_an_empty_shot_is_glanced_at_in_every_fourth_look() -> None:
    detector, tracks, boxes = followed(lambda k: [])
    assert not len(tracks) and all(found == [] for found in boxes.values()) and len(boxes) == 22
    assert detector.searched == [0, 12] and len(detector.glanced) <= 6


@pytest.mark.parametrize("name", ["juggle_static_fullbody", "dance_balloon_static"])
def test_tracks_of_real_people_are_those_of_searching_in_every_look(
    data: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = video.probe(data / f"internet/{name}.mp4")
    every = round(info.fps / 6)
    images = video.decode(data / f"internet/{name}.mp4", stop=20 * every, step=every, size=(854, 480))
    fewer, few = _tracked(images, STRIDE, PeopleConfig(), monkeypatch)
    all_looks, many = _tracked(images, 1, PeopleConfig(searches=math.inf), monkeypatch)
    assert np.isfinite(fewer).all() and np.isfinite(all_looks).all()
    overlaps = [iou(a, b) for a, b in zip(fewer, all_looks, strict=True)]
    assert np.median(overlaps) > 0.95 and min(overlaps) > 0.8
    assert few["detect"] < 0.2 * many["detect"] and few["outline"] < many["outline"]


def _tracked(
    images: np.ndarray, stride: int, config: PeopleConfig, monkeypatch: pytest.MonkeyPatch
) -> tuple[np.ndarray, Counter[str]]:
    """Return the only track, and how often each model ran."""
    monkeypatch.setattr(follow, "STRIDE", stride)
    detector, runs = Detector(DetectorConfig()), Counter[str]()
    for model in ("detect", "outline"):
        method = getattr(detector._pose, model)
        monkeypatch.setattr(detector._pose, model, lambda *a, m=model, f=method: (runs.update([m]), f(*a))[1])
    follower = Follower(detector, config, FPS)
    for k, image in enumerate(images):
        follower.look(k, lambda image=image: image)
    (track,) = follower.over(range(len(images))).tracks
    return track, runs
