"""Render jobs for tests: writable copies of the test data, synthetic jobs, and helpers that ingest them."""

import csv
import json
import shutil
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from opendimo.pipelines.engine.stage import DataError, Outcome, Work, run_each
from opendimo.pipelines.sources import unreal
from opendimo.pipelines.sources.config import SourcesConfig
from opendimo.pipelines.sources.items import UnusableItem
from opendimo.pipelines.sources.renders.jobs import jobs_in
from opendimo.storage_schemas.media.video import encode


def make(work: Work) -> dict[str, list[dict[str, Any]]]:
    """Process a piece of work of a render as the stage does."""
    if isinstance(work.payload, UnusableItem):
        raise DataError(work.payload.problem)
    return unreal.rows(work.payload)


def ingest(path: Path, config: SourcesConfig | None = None) -> Outcome:
    """List and convert everything at `path`."""
    works = unreal.discover(path, jobs_in(path), config or SourcesConfig())
    outcome = run_each(works, make)
    outcome.check(works)
    return outcome


def message(path: Path, config: SourcesConfig | None = None) -> str:
    """Return the message of the only reject at `path`, which must be a data error."""
    (reject,) = ingest(path, config).rejects
    assert reject.error_class == "data", reject
    return reject.message


def writable(source: Path, target: Path) -> Path:
    """Make a writable copy; the original may be read-only."""
    copy = Path(shutil.copytree(source, target, copy_function=shutil.copyfile))
    for folder in (copy, *(p for p in copy.rglob("*") if p.is_dir())):
        folder.chmod(0o755)
    return copy


def only(job: Path, sequence: str) -> Path:
    """Remove all sequences but one from a job."""
    kept = False

    def change(rows: list[list[str]]) -> None:
        nonlocal kept
        selected = rows[:1]
        for row in rows[1:]:
            if row[1] == "Group":
                kept = f"sequence_name={sequence};" in row[9]
            if kept:
                selected.append(row)
        rows[:] = selected

    edit(job / "be_seq.csv", change)
    for video in (job / "mp4").glob("*.mp4"):
        if video.stem != sequence:
            video.unlink()
    return job


def edit(path: Path, change: Callable[[list[list[str]]], Any]) -> None:
    """Edit the rows of a CSV file in place."""
    with path.open(newline="") as stream:
        rows = list(csv.reader(stream))
    change(rows)
    with path.open("w", newline="") as stream:
        csv.writer(stream).writerows(rows)


def write_video(path: Path, frames: int, size: tuple[int, int] = (64, 36), fps: int = 30) -> None:
    """Write a small video with a moving pattern."""
    path.parent.mkdir(parents=True, exist_ok=True)
    ramp = np.arange(size[0] * size[1] * 3, dtype=np.uint8).reshape(size[1], size[0], 3)
    path.write_bytes(encode((np.roll(ramp, frame) for frame in range(frames)), Fraction(fps)))


def write_pictures(pattern: Path, numbers: range, size: tuple[int, int] = (64, 36)) -> None:
    """Write small pictures, each of one colour that encodes its number."""
    pattern.parent.mkdir(parents=True, exist_ok=True)
    for number in numbers:
        Image.new("RGB", size, (number, 2 * number % 256, 7)).save(str(pattern) % number)


def write_json(path: Path, value: Any) -> Path:
    """Write JSON and return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))
    return path
