"""Short videos made from real clips: joins of two takes, and takes with a disturbance that is no cut.

All have `FRAMES` frames of `SIZE`, and the event in the middle, at frame `AT`.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import cycle
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from opendimo.storage_schemas.media import video

Clip = NDArray[np.uint8]  # [T, h, w, 3] BGR
Random = np.random.Generator

SIZE = (288, 162)
BORDER = 16  # pixels around `SIZE` that a camera may shake into
FRAMES, AT = 40, 20
CLIPS = ("internet/*.mp4", "internet/virtual_camera/*.mp4", "multiview/*/*.mp4", "ue5/*/mp4/*.mp4")


@dataclass(frozen=True)
class Made:
    """A made video. `cuts`: the frames at which shots begin; none for a disturbance."""

    kind: str
    frames: Clip
    cuts: tuple[int, ...] = ()


Make = Callable[[dict[str, Clip], Random], Made]


def read_takes(data: Path, patterns: Sequence[str] = CLIPS) -> dict[str, Clip]:
    """Return the real clips by name, [T, 194, 320, 3] BGR, cropped to one shape."""
    paths = sorted(path for pattern in patterns for path in data.glob(pattern))
    return {str(path.relative_to(data)): _take(path) for path in paths}


def made_set(kinds: dict[str, Make], count: int, takes: dict[str, Clip], seed: int = 0) -> Iterator[Made]:
    """Yield `count` videos, of all `kinds` in turn."""
    for k, (kind, make) in zip(range(count), cycle(kinds.items()), strict=False):
        yield make(takes, np.random.default_rng([seed, k, *kind.encode()]))


def _take(path: Path) -> Clip:
    width, height = SIZE[0] + 2 * BORDER, SIZE[1] + 2 * BORDER
    frames = video.decode(path, rotation=video.probe(path).rotation)
    return video.centre_crop(frames, width, height)[..., ::-1]


def _pick(takes: dict[str, Clip], random: Random, but: str = "") -> str:
    """Choose a take whose scene is not that of `but`: another folder, or another file of `internet`."""
    names = [name for name in takes if not but or _scene(name) != _scene(but)]
    return names[random.integers(len(names))]


def _scene(name: str) -> str:
    """Return what a take shows; virtual cameras film `juggle`, the cameras of a rig one room."""
    if "virtual_camera" in name:
        return "internet/juggle_static_fullbody.mp4"
    return name if name.startswith("internet") else name.split("/mp4")[0].rsplit("/", 1)[0]


def _part(take: Clip, random: Random, count: int = FRAMES) -> Clip:
    start = random.integers(len(take) - count + 1)
    return take[start : start + count]


def _inner(frames: Clip) -> Clip:
    return np.ascontiguousarray(frames[:, BORDER:-BORDER, BORDER:-BORDER])


# joins


def _scenes(takes: dict[str, Clip], random: Random) -> Made:
    """Join two scenes."""
    a = _pick(takes, random)
    b = _pick(takes, random, but=a)
    return _joined("other scene", _part(takes[a], random), _part(takes[b], random))


def _graded(takes: dict[str, Clip], random: Random) -> Made:
    """Join two scenes of the same brightness and colour: mean and deviation of each channel are equal."""
    a = _pick(takes, random)
    b = _pick(takes, random, but=a)
    before, after = _part(takes[a], random), _part(takes[b], random)
    wanted, given = before[AT - 1].astype(float), after[AT].astype(float)
    gain = wanted.std((0, 1)) / np.maximum(given.std((0, 1)), 1)
    after = _stored((after - given.mean((0, 1))) * gain + wanted.mean((0, 1)))
    return _joined("other scene, same colours", before, after)


def _views(takes: dict[str, Clip], random: Random) -> Made:
    """Join two cameras of one rig."""
    rigs = sorted({_scene(name) for name in takes if name.startswith("multiview")})
    rig = rigs[random.integers(len(rigs))]
    a, b = random.permutation([name for name in takes if _scene(name) == rig])[:2]
    return _joined("other camera", _part(takes[a], random), _part(takes[b], random))


def _inserted(takes: dict[str, Clip], random: Random) -> Made:
    """Insert one frame of another scene."""
    a = _pick(takes, random)
    frames = _inner(_part(takes[a], random))
    frames[AT] = _inner(_part(takes[_pick(takes, random, but=a)], random, 1))[0]
    return Made("one frame of another scene", frames, (AT, AT + 1))


def _closer(takes: dict[str, Clip], random: Random) -> Made:
    """Cut to a closer picture of the same take, 1.3 to 2 times."""
    take = takes[_pick(takes, random)]
    before, after = _part(take, random), _part(take, random)
    height, width = (round(side / random.uniform(1.3, 2)) for side in after.shape[1:3])
    y, x = (random.integers(side - cut + 1) for side, cut in zip(after.shape[1:3], (height, width), strict=True))
    closer = [cv2.resize(frame[y : y + height, x : x + width], after.shape[2:0:-1]) for frame in after]
    return _joined("closer picture", before, np.stack(closer))


def _branded(takes: dict[str, Clip], random: Random) -> Made:
    """Join two scenes that show the same logo and the same line of text."""
    a = _pick(takes, random)
    joined = _joined(
        "other scene, same logo", _part(takes[a], random), _part(takes[_pick(takes, random, but=a)], random)
    )
    for frame in joined.frames:
        cv2.circle(frame, (SIZE[0] - 25, 25), 15, (40, 40, 220), -1)
        cv2.putText(frame, "TV", (SIZE[0] - 35, 31), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (255, 255, 255), 2)
        cv2.putText(frame, "a line of text on all", (40, SIZE[1] - 12), cv2.FONT_HERSHEY_SIMPLEX, 0.6, (255,) * 3, 2)
    return joined


def _later(takes: dict[str, Clip], random: Random) -> Made:
    """Jump to another moment of the same take, at least a moment away."""
    take = takes[_pick(takes, random)]
    first, second = sorted(random.choice(len(take) - FRAMES + 1, 2, replace=False))
    return _joined("same scene, later", take[first : first + FRAMES], take[second : second + FRAMES])


def _joined(kind: str, before: Clip, after: Clip) -> Made:
    return Made(kind, _inner(np.concatenate([before[:AT], after[AT:]])), (AT,))


# disturbances


def _disturbed(kind: str, change: Callable[[Clip, Random], Clip], takes: dict[str, Clip], random: Random) -> Made:
    """Disturb a take: `change` gets its frames with borders and returns them without."""
    return Made(kind, change(_part(takes[_pick(takes, random)], random), random))


def _flash(frames: Clip, random: Random) -> Clip:
    """Light the scene for 1 to 4 frames, the first the brightest: a gain and an offset, clipped."""
    frames = _inner(frames)
    count, strength = random.integers(1, 5), random.uniform(0.5, 1)
    for k in range(count):
        light = strength * (1 - k / count)
        frames[AT + k] = _stored(frames[AT + k] * (1.0 + 3 * light) + 200 * light)
    return frames


def _dropout(frames: Clip, random: Random) -> Clip:
    """Replace 1 to 3 frames by one colour, black, grey or white, with a little noise."""
    frames = _inner(frames)
    count, level = random.integers(1, 4), random.choice([0, 128, 255])
    frames[AT : AT + count] = _stored(level + random.normal(0, 2, (count, *frames.shape[1:])))
    return frames


def _flare(frames: Clip, random: Random) -> Clip:
    """Add a glare that comes within a frame, stays for 1 to 8 frames and leaves: a glow, a streak, coloured ghosts."""
    frames = _inner(frames)
    height, width = frames.shape[1:3]
    y, x = np.mgrid[:height, :width].astype(np.float32)
    sun, drift = random.uniform(0.1, 0.9, 2) * (width, height), random.uniform(-6, 6, 2)
    centre, strength = np.array([width, height]) / 2, random.uniform(0.6, 1)
    tints, sizes = random.uniform(0.2, 1, (4, 3)), random.uniform(6, 25, 4)
    for k in range(random.integers(1, 9)):
        at = sun + k * drift
        glow = np.exp(-np.hypot(x - at[0], y - at[1]) / (0.25 * width)) + 0.6 * np.exp(-np.abs(y - at[1]) / 4)
        light = 330 * glow[..., None] * (0.8, 0.95, 1)
        for ghost, (tint, size) in enumerate(zip(tints, sizes, strict=True)):
            place = at + (centre - at) * (0.6 + 0.45 * ghost)
            light = light + 90 * (np.hypot(x - place[0], y - place[1]) < size)[..., None] * tint
        frames[AT + k] = _stored(frames[AT + k] + strength * light)
    return frames


def _exposure(frames: Clip, random: Random) -> Clip:
    """Change exposure and white balance for good, within a frame: 0.8 to 2 stops up or down."""
    frames = _inner(frames)
    stops = random.uniform(0.8, 2) * random.choice([-1, 1])
    balance = random.uniform(0.8, 1.2, 3)
    linear = (frames[AT:] / 255) ** 2.2 * 2**stops * balance
    frames[AT:] = _stored(255 * linear ** (1 / 2.2))
    return frames


def _jolt(frames: Clip, random: Random) -> Clip:
    """Shake the camera for 1 to 3 frames, blurred by the motion; afterwards it may look a little elsewhere."""
    count, offset, shaken = random.integers(1, 4), np.zeros(3), []
    rest = random.uniform(-0.5, 0.5, 3) * random.integers(2)
    for k, frame in enumerate(frames):
        before = offset
        if AT <= k < AT + count:
            offset = random.choice([-1, 1], 3) * random.uniform(0.6, 1, 3)
        elif k >= AT + count:
            offset = rest
        shaken.append(np.mean([_moved(frame, *(before + s * (offset - before))) for s in (0.6, 0.8, 1)], axis=0))
    return _inner(_stored(np.stack(shaken)))


def _moved(frame: Clip, x: float, y: float, turn: float) -> NDArray[np.float32]:
    """Move a frame by up to a twelfth of its width, and turn it by up to 4 degrees."""
    height, width = frame.shape[:2]
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), 4 * turn, 1)
    matrix[:, 2] += x * width / 12, y * width / 12
    return cv2.warpAffine(frame, matrix, (width, height), borderMode=cv2.BORDER_REFLECT).astype(np.float32)


def _stored(values: NDArray[np.floating]) -> Clip:
    return np.clip(np.round(values), 0, 255).astype(np.uint8)


JOINS: dict[str, Make] = {
    "other scene": _scenes,
    "other scene, same colours": _graded,
    "other camera": _views,
    "other scene, same logo": _branded,
    "closer picture": _closer,
    "one frame of another scene": _inserted,
}
JUMPS: dict[str, Make] = {"same scene, later": _later}
"""Cuts that change of content alone often cannot show: most of the picture stays."""
DISTURBANCES: dict[str, Make] = {
    kind: partial(_disturbed, kind, change)
    for kind, change in {
        "flash": _flash,
        "dropout": _dropout,
        "lens flare": _flare,
        "exposure step": _exposure,
        "jolt": _jolt,
    }.items()
}
