"""A generated clip beside what it was made of."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from opendimo.pipelines.report.media import Media
from opendimo.pipelines.report.sheets import grid
from opendimo.storage_schemas.ids import sha256_file
from opendimo.storage_schemas.lake.files import read_json
from opendimo.storage_schemas.media import video

Row = dict[str, Any]
Window = tuple[int, int, float]  # frames, step, about how many a second before that step
Frames = NDArray[np.uint8]
SIDE = 360  # short side of what is shown
MOST_FRAMES = 300
DRIVING_FPS = 30.0  # where the rate of training is not known, as `pipelines.driving` has it
STRIP, STRIP_HEIGHT = 9, 120


@dataclass(frozen=True)
class Generated:
    """Links of what is there; `problems` says what could not be shown. `strip` shows the frames of the generated clip,
    under those of the driving video that they follow where the record says which these are (`aligned`)."""

    clip: str | None
    strip: str | None
    aligned: bool
    reference: str | None
    driving: str | None
    truth: str | None
    prompt: str | None
    problems: list[str]


def read_generated(clip: Path, media: Media) -> Generated:
    """The clip FILE.mp4 with what the record FILE.json beside it names: `reference`, `driving` (paths), `prompt`, and
    where they are there `truth`, a video of what should come out, and `facts.window` (`num_frames` and `fps`, or else
    `frame_step`): what was read of the driving video.
    """
    problems: list[str] = []
    record = _record(clip, problems)
    window = _window(record)

    def shown(what: str, show: Callable[[], str]) -> str | None:
        try:
            return show()
        except (ValueError, OSError, Image.DecompressionBombError) as error:
            problems.append(f"{what}: {error}")
            return None

    reference, driving, truth = (_named(record, name, clip.parent) for name in ("reference", "driving", "truth"))
    prompt = record.get("prompt")
    return Generated(
        clip=shown("generated clip", lambda: _whole(clip, media)),
        strip=shown("frames", lambda: _strip(clip, driving, window, media)),
        aligned=bool(driving and window),
        reference=shown("reference image", lambda: _picture(reference, media)) if reference else None,
        driving=shown("driving video", lambda: _driving(driving, clip, window, media)) if driving else None,
        truth=shown("true clip", lambda: _whole(truth, media)) if truth else None,
        prompt=prompt if isinstance(prompt, str) else None,
        problems=problems,
    )


def _record(clip: Path, problems: list[str]) -> Row:
    beside = clip.with_suffix(".json")
    try:
        record = read_json(beside)
    except ValueError as error:
        problems.append(f"{beside.name}: {error}")
        return {}
    return record if isinstance(record, dict) else {}


def _window(record: Row) -> Window | None:
    """The driving window, if the record has it."""
    match record:
        case {"facts": {"window": {"num_frames": int(count), "fps": float(rate)}}} if count > 0 and rate > 0:
            return count, 1, rate
        case {"facts": {"window": {"num_frames": int(count), "frame_step": int(step)}}} if count > 0 and step > 0:
            return count, step, DRIVING_FPS
    return None


def _named(record: Row, name: str, folder: Path) -> Path | None:
    """A file the record names: absolute, from here, or beside the record."""
    value = record.get(name)
    if not isinstance(value, str):
        return None
    return Path(value) if Path(value).exists() else folder / value


def _whole(path: Path, media: Media) -> str:
    video.probe(path)
    return media.video(["whole", sha256_file(path)], path.read_bytes)


def _driving(path: Path, clip: Path, window: Window | None, media: Media) -> str:
    """What was read of the driving video, at the rate of the generated clip; else the beginning of it."""

    def make() -> bytes:
        if window:
            return video.encode(_window_frames(path, window), video.probe(clip).fps, crf=24)
        info = video.probe(path)
        size = _fit(info.width, info.height)
        frames = islice(video.frames(path, rotation=info.rotation), MOST_FRAMES)
        return video.encode((video.resize(frame, size) for frame in frames), info.fps, crf=26)

    return media.video(["driving", sha256_file(path), sha256_file(clip), window], make)


def _picture(path: Path, media: Media) -> str:
    def make() -> Frames:
        with Image.open(path) as image:
            image.thumbnail((2 * SIDE, 2 * SIDE))
            return np.asarray(image.convert("RGB"))

    return media.picture(["picture", sha256_file(path)], make)


def _strip(clip: Path, driving: Path | None, window: Window | None, media: Media) -> str:
    """Frames of the clip in a row, evenly spaced, under the driving frames."""

    def make() -> Frames:
        rows = [video.decode(clip)]
        if driving and window:
            rows.insert(0, _window_frames(driving, window))
        count = min(len(frames) for frames in rows)
        chosen = np.unique(np.linspace(0, count - 1, STRIP).round().astype(int))
        width = max(round(STRIP_HEIGHT * f.shape[2] / f.shape[1]) for f in rows)
        tiles = [_letterbox(frames[t], width, STRIP_HEIGHT) for frames in rows for t in chosen]
        return grid(tiles, len(chosen))

    content = ["strip", sha256_file(clip), sha256_file(driving) if driving else None, window]
    return media.picture(content, make)


def _window_frames(path: Path, window: Window) -> Frames:
    """The driving frames that were encoded, as `pipelines.driving` reads them."""
    count, every, rate = window
    info = video.probe(path)
    step = every * max(1, round(float(info.fps) / rate))
    stop = (count - 1) * step + 1
    return video.decode(path, stop=stop, step=step, size=_fit(info.width, info.height), rotation=info.rotation)


def _fit(width: int, height: int) -> tuple[int, int]:
    """Even size with a short side of at most `SIDE`."""
    scale = min(1.0, SIDE / min(width, height))
    return max(2, round(width * scale / 2) * 2), max(2, round(height * scale / 2) * 2)


def _letterbox(image: Frames, width: int, height: int) -> Frames:
    scale = min(width / image.shape[1], height / image.shape[0])
    small = video.resize(image, (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale))))
    y, x = (height - small.shape[0]) // 2, (width - small.shape[1]) // 2
    framed = np.zeros((height, width, 3), np.uint8)
    framed[y : y + small.shape[0], x : x + small.shape[1]] = small
    return framed
