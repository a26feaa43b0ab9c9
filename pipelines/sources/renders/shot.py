"""The shot: one view of one performance, as listed by every layout before anything is decoded."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from opendimo.pipelines.engine.stage import DataError
from opendimo.pipelines.sources.items import fingerprint
from opendimo.storage_schemas.media.image_sequence import ImageSequence, is_pattern, open_sequence


@dataclass(frozen=True)
class Shot:
    """One view of a performance.

    `pictures`: a video, or a pattern of numbered pictures, with `fps` the rate at which the numbers count.
    `turn`: clockwise rotation in degrees that makes pictures upright; `portrait`: rotate by 90 if wider than high.
    `numbered`: picture numbers are frame numbers of the render, and some frames may be left out.
    `frames`: stated number of frames at the full rate. `ground`: ground height in metres.
    `bodies`: names of the bodies returned by the layout's `bodies()`.
    `facts`: JSON-able input for the layout's `cameras()` and `bodies()`.
    `content`: fingerprints of everything that determines the rows. `references`: (kind, path) of files never read.
    `problem`: why the shot cannot be ingested, None if it can.
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
    """Return a shot that cannot be ingested, with the reason."""
    return Shot(layout, view, uri, content=fingerprint(uri), problem=problem)


def picture_prints(pictures: str) -> list[Any]:
    """Return fingerprints of a video, or of all pictures of a pattern."""
    if not is_pattern(pictures):
        return [fingerprint(Path(pictures))]
    try:
        return [fingerprint(path) for path in sequence_of(pictures).paths]
    except DataError:
        return [pictures]


def sequence_of(pattern: str) -> ImageSequence:
    """Return the pictures of a pattern. Raises `DataError` if there are none, or one is missing."""
    try:
        return open_sequence(pattern)
    except (OSError, ValueError) as error:
        raise DataError(f"{error}. Copy all pictures of the render there") from error
