"""Define the takes that the studio renders."""

from dataclasses import dataclass
from functools import cache

import numpy as np

from opendimo.pipelines.studio import cameras
from opendimo.pipelines.studio.cameras import Camera
from opendimo.pipelines.studio.film import Person
from opendimo.pipelines.studio.motions import act

LEAD_IN = 6
"""Frames of a published motion before the video begins, so that `start_frame` matters."""


@dataclass(frozen=True)
class Take:
    """One performance, filmed by one or more synchronised `views`. `kind` is internet, unreal or multiview.

    `files`: names of the views' videos, without suffix. The motions of `people` start `LEAD_IN` frames before the first
    video frame.
    """

    kind: str
    name: str
    files: tuple[str, ...]
    scene: int
    people: tuple[Person, ...]
    views: tuple[Camera, ...]

    @property
    def frames(self) -> int:
        """Number of video frames of each view."""
        return len(self.views[0].focal)


@cache
def programme(seed: int, frames: int) -> tuple[Take, ...]:
    """Return all takes, with `frames` video frames per view. The same seed gives the same takes."""
    return (*_unreal(seed, frames), *_multiview(seed, frames), *_internet(seed, frames))


def _person(seed: int, number: int, name: str, action: str, frames: int, aside: float = 0) -> Person:
    """Create person `number`, `aside` cm to the right of the centre; seed and number determine their motion."""
    motion = act(action, frames + LEAD_IN, np.random.default_rng((seed, number)))
    return Person(name, motion, (0.0, aside, 0.0), look=number + seed)


def _unreal(seed: int, frames: int) -> list[Take]:
    """Return takes of three people, each filmed by two static cameras and a moving one."""
    turn = np.random.default_rng((seed, 100)).uniform(-12, 12, 9)

    def static(view: int, azimuth: float, distance: float) -> Camera:
        return cameras.static(frames, azimuth + turn[view], distance, height=1.4)

    views = {
        "wave": (static(0, 0, 3.4), static(1, -38, 3.4), cameras.dolly(static(2, 40, 3.4), 0.8)),
        "jumping-jacks": (static(3, -15, 3.5), static(4, -45, 3.5), cameras.pan(static(5, 20, 3.5), -11)),
        "walk-circle": (static(6, 10, 3.6), static(7, -30, 3.6), cameras.dolly(static(8, 45, 3.5), -0.7)),
    }
    takes = []
    for number, (name, (action, shots)) in enumerate(zip(("ada", "ben", "cleo"), views.items(), strict=True)):
        files = tuple(f"seq_{3 * number + i:06d}" for i in range(3))
        takes.append(Take("unreal", action, files, seed, (_person(seed, number, name, action, frames),), shots))
    return takes


def _multiview(seed: int, frames: int) -> list[Take]:
    places = ((-62, 3.4, 1.5), (-18, 3.2, 1.3), (24, 3.3, 1.6), (70, 3.5, 1.4))
    rig = tuple(cameras.static(frames, *place) for place in places)
    files = tuple(f"cam{i + 1:02d}" for i in range(len(rig)))
    return [Take("multiview", "count", files, seed + 1, (_person(seed, 3, "dana", "count", frames),), rig)]


def _internet(seed: int, frames: int) -> list[Take]:
    """Return two takes of one person with a static camera, one of two people, hand-held, and one of an empty scene."""

    def person(number: int, action: str, aside: float = 0) -> Person:
        return _person(seed, number, f"person{number}", action, frames, aside)

    front, side = cameras.static(frames, 8, 3.4, 1.4), cameras.static(frames, -30, 3.4, 1.4)
    moving = cameras.shake(cameras.dolly(cameras.static(frames, 0, 4.2, 1.4), 0.4), 0.25, seed)
    pair = (person(6, "squat", -75), person(7, "turn", 75))

    def take(number: int, name: str, people: tuple[Person, ...], camera: Camera) -> Take:
        return Take("internet", name, (name,), seed + 2 + number, people, (camera,))

    return [
        take(0, "side_steps", (person(4, "side-steps"),), front),
        take(1, "punches", (person(5, "punches"),), side),
        take(2, "two_people", pair, moving),
        take(3, "nobody", (), cameras.pan(front, 14)),
    ]
