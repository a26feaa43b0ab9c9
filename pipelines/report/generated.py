"""Show a generated clip next to its inputs."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from opendimo.pipelines.report.media import Media
from opendimo.pipelines.report.sheets import grid
from opendimo.storage_schemas.ids import sha256_file
from opendimo.storage_schemas.lake.files import read_json
from opendimo.storage_schemas.media import video
from opendimo.storage_schemas.rows import Row

Window = tuple[int, int, float]  # number of frames, step, approximate frame rate before that step
Frames = NDArray[np.uint8]
SIDE = 360  # short side of pictures and videos shown, pixels
MOST_FRAMES = 300
DRIVING_FPS = 30.0  # used if the frame rate of training is unknown, as in `pipelines.driving`
STRIP, STRIP_HEIGHT = 9, 120


@dataclass(frozen=True)
class Generated:
    """Links of the existing media; `problems`: what could not be shown. `strip`: frames of the generated clip, under
    the matching frames of the driving video if the record names the driving window (`aligned`), over the true ones."""

    clip: str | None
    strip: str | None
    aligned: bool
    reference: str | None
    driving: str | None
    truth: str | None
    prompt: str | None
    problems: list[str]


def read_generated(clip: Path, media: Media) -> Generated:
    """Read the clip FILE.mp4 and the record FILE.json next to it.

    The record names `reference` and `driving` (paths) and `prompt`, and optionally `truth` (path of the ground-truth
    video) and `facts.window` (`num_frames` and `fps`, or `frame_step`): the window read from the driving video.
    """
    problems: list[str] = []
    record = _record(clip, problems)
    window = _window(record)

    def link_or_none(what: str, show: Callable[[], str]) -> str | None:
        try:
            return show()
        except (ValueError, OSError, Image.DecompressionBombError) as error:
            problems.append(f"{what}: {error}")
            return None

    reference, driving, truth = (_named(record, name, clip.parent) for name in ("reference", "driving", "truth"))
    prompt = record.get("prompt")
    return Generated(
        clip=link_or_none("generated clip", lambda: _whole(clip, media)),
        strip=link_or_none("frames", lambda: _strip(clip, driving, truth, window, media)),
        aligned=bool(driving and window),
        reference=link_or_none("reference image", lambda: _picture(reference, media)) if reference else None,
        driving=link_or_none("driving video", lambda: _driving(driving, clip, window, media)) if driving else None,
        truth=link_or_none("true clip", lambda: _whole(truth, media)) if truth else None,
        prompt=prompt if isinstance(prompt, str) else None,
        problems=problems,
    )


def _record(clip: Path, problems: list[str]) -> Row:
    path = clip.with_suffix(".json")
    try:
        record = read_json(path)
    except ValueError as error:
        problems.append(f"{path.name}: {error}")
        return {}
    return record if isinstance(record, dict) else {}


def _window(record: Row) -> Window | None:
    """Return the driving window if the record has one."""
    match record:
        case {"facts": {"window": {"num_frames": int(count), "fps": float(rate)}}} if count > 0 and rate > 0:
            return count, 1, rate
        case {"facts": {"window": {"num_frames": int(count), "frame_step": int(step)}}} if count > 0 and step > 0:
            return count, step, DRIVING_FPS
    return None


def _named(record: Row, name: str, folder: Path) -> Path | None:
    """Return the path of a file named in the record: absolute, relative to the working directory, or to the record."""
    value = record.get(name)
    if not isinstance(value, str):
        return None
    return Path(value) if Path(value).exists() else folder / value


def _whole(path: Path, media: Media) -> str:
    video.probe(path)
    return media.video(["whole", sha256_file(path)], path.read_bytes)


def _driving(path: Path, clip: Path, window: Window | None, media: Media) -> str:
    """Store the driving window at the frame rate of the generated clip, or else the start of the driving video."""

    def make() -> bytes:
        if window:
            return video.encode(_window_frames(path, window), video.probe(clip).fps, crf=24)
        info = video.probe(path)
        size = _fit(info.width, info.height)
        frames = islice(video.frames(path, rotation=info.rotation, mirrored=info.mirrored), MOST_FRAMES)
        return video.encode((video.resize(frame, size) for frame in frames), info.fps, crf=26)

    return media.video(["driving", sha256_file(path), sha256_file(clip), window], make)


def _picture(path: Path, media: Media) -> str:
    def make() -> Frames:
        with Image.open(path) as image:
            image.thumbnail((2 * SIDE, 2 * SIDE))
            return np.asarray(image.convert("RGB"))

    return media.picture(["picture", sha256_file(path)], make)


def _strip(clip: Path, driving: Path | None, truth: Path | None, window: Window | None, media: Media) -> str:
    """Store a strip of evenly spaced frames of the clip, below the driving frames and above the true ones."""

    def make() -> Frames:
        rows = [video.decode(clip)]
        if driving and window:
            rows.insert(0, _window_frames(driving, window))
        if truth:
            rows.append(video.decode(truth))
        count = min(len(frames) for frames in rows)
        chosen = np.unique(np.linspace(0, count - 1, STRIP).round().astype(int))
        width = max(round(STRIP_HEIGHT * f.shape[2] / f.shape[1]) for f in rows)
        tiles = [_letterbox(frames[t], width, STRIP_HEIGHT) for frames in rows for t in chosen]
        return grid(tiles, len(chosen))

    content = ["strip", sha256_file(clip), *(sha256_file(path) if path else None for path in (driving, truth)), window]
    return media.picture(content, make)


def _window_frames(path: Path, window: Window) -> Frames:
    """Return the driving frames that the model received, read as in `pipelines.driving`."""
    count, every, rate = window
    info = video.probe(path)
    step = every * max(1, round(float(info.fps) / rate))
    stop = (count - 1) * step + 1
    size = _fit(info.width, info.height)
    return video.decode(path, stop=stop, step=step, size=size, rotation=info.rotation, mirrored=info.mirrored)


def _fit(width: int, height: int) -> tuple[int, int]:
    """Return an even size (width, height) with a short side of at most `SIDE`."""
    scale = min(1.0, SIDE / min(width, height))
    return max(2, round(width * scale / 2) * 2), max(2, round(height * scale / 2) * 2)


def _letterbox(image: Frames, width: int, height: int) -> Frames:
    scale = min(width / image.shape[1], height / image.shape[0])
    small = video.resize(image, (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale))))
    y, x = (height - small.shape[0]) // 2, (width - small.shape[1]) // 2
    framed = np.zeros((height, width, 3), np.uint8)
    framed[y : y + small.shape[0], x : x + small.shape[1]] = small
    return framed
