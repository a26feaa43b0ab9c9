"""A generated clip beside what it was made of."""

from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipelines.report.media import Media
from pipelines.report.sheets import grid
from storage_schemas import video
from storage_schemas.files import read_json
from storage_schemas.ids import sha256_file

SIDE = 360  # short side of what is shown
MOST_FRAMES = 300
STRIP, STRIP_HEIGHT = 9, 96


@dataclass(frozen=True)
class Generated:
    """Links of what is there; `problems` says what could not be shown."""

    clip: str | None
    strip: str | None
    reference: str | None
    driving: str | None
    prompt: str | None
    problems: list[str]


def read_generated(clip: Path, media: Media) -> Generated:
    """The clip FILE.mp4 with what FILE.json beside it names: `reference`, `driving` (paths, relative to it) and
    `prompt`."""
    problems: list[str] = []
    facts = _facts(clip, problems)

    def shown(what: str, path: Path | None, show: Any) -> str | None:
        if path is None:
            return None
        try:
            return str(show(path, media))
        except (ValueError, OSError) as error:
            problems.append(f"{what}: {error}")
            return None

    def named(what: str) -> Path | None:
        return clip.parent / facts[what] if isinstance(facts.get(what), str) else None

    prompt = facts.get("prompt")
    return Generated(
        shown("generated clip", clip, _whole),
        shown("frames of the generated clip", clip, _strip),
        shown("reference image", named("reference"), _picture),
        shown("driving video", named("driving"), _small),
        prompt if isinstance(prompt, str) else None,
        problems,
    )


def _facts(clip: Path, problems: list[str]) -> dict[str, Any]:
    beside = clip.with_suffix(".json")
    try:
        facts = read_json(beside)
    except ValueError as error:
        problems.append(f"{beside.name}: {error}")
        return {}
    return facts if isinstance(facts, dict) else {}


def _whole(path: Path, media: Media) -> str:
    video.probe(path)
    return media.video(["whole", sha256_file(path)], path.read_bytes)


def _small(path: Path, media: Media) -> str:
    """A video of any format and length, small enough for a page."""

    def make() -> bytes:
        info = video.probe(path)
        scale = min(1.0, SIDE / min(info.width, info.height))
        size = (max(2, round(info.width * scale / 2) * 2), max(2, round(info.height * scale / 2) * 2))
        frames = islice(video.frames(path, rotation=info.rotation), MOST_FRAMES)
        return video.encode((video.resize(frame, size) for frame in frames), Fraction(info.fps), crf=26)

    return media.video(["small", sha256_file(path)], make)


def _picture(path: Path, media: Media) -> str:
    def make() -> NDArray[np.uint8]:
        with Image.open(path) as image:
            image.thumbnail((2 * SIDE, 2 * SIDE))
            return np.asarray(image.convert("RGB"))

    return media.picture(["picture", sha256_file(path)], make)


def _strip(path: Path, media: Media) -> str:
    """A row of the clip's frames, evenly spaced."""

    def make() -> NDArray[np.uint8]:
        frames = video.decode(path)
        chosen = frames[np.unique(np.linspace(0, len(frames) - 1, STRIP).round().astype(int))]
        size = (round(STRIP_HEIGHT * frames.shape[2] / frames.shape[1]), STRIP_HEIGHT)
        return grid([video.resize(frame, size) for frame in chosen], STRIP)

    return media.picture(["strip", sha256_file(path)], make)
