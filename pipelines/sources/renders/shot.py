"""What every layout lists: a shot, one view of one performance, before anything of it is decoded."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from opendimo.pipelines.engine.stage import DataError
from opendimo.pipelines.sources.items import fingerprint
from opendimo.storage_schemas.media.image_sequence import ImageSequence, is_pattern, open_sequence


@dataclass(frozen=True)
class Shot:
    """One view.

    `pictures`: a video, or a pattern of pictures with `fps`, the rate of steps by one. `turn`: clockwise, in degrees,
    makes them upright; `portrait`: by 90, if they are wider than high. `numbered`: the numbers of pictures are those of
    frames, of which some may be left out. `frames`: as stated, of the full rate. `ground`: its height in metres.
    `bodies`: names of what `bodies()` of the layout gives. `facts`: what the layout needs to read cameras and bodies
    again, JSON-able. `content` fingerprints all that decides the answer. `references`: (kind, path) of what is never
    read. `problem` keeps the shot out.
    """

    layout: str
    view: str
    uri: Path
    pictures: str = ""
    fps: str | None = None
    turn: int = 0
    portrait: bool = False
    numbered: bool = False
    frames: int | None = None
    capture_id: str = ""
    take: str = ""
    subject: str | None = None
    action: str | None = None
    licence: str | None = None
    attribution: str | None = None
    ground: float | None = None
    bodies: list[str] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    content: Any = None
    references: list[tuple[str, str]] = field(default_factory=list)
    problem: str | None = None


def broken(layout: str, view: str, uri: Path, problem: str) -> Shot:
    """What cannot be ingested, and why."""
    return Shot(layout, view, uri, content=fingerprint(uri), problem=problem)


def picture_prints(pictures: str) -> list[Any]:
    """Fingerprint of a video, or of all pictures of a pattern."""
    if not is_pattern(pictures):
        return [fingerprint(Path(pictures))]
    try:
        return [fingerprint(path) for path in sequence_of(pictures).paths]
    except DataError:
        return [pictures]


def sequence_of(pattern: str) -> ImageSequence:
    """The pictures of a pattern. Raises `DataError` where there are none, or one is missing."""
    try:
        return open_sequence(pattern)
    except (OSError, ValueError) as error:
        raise DataError(f"{error}. Copy all pictures of the render there") from error
