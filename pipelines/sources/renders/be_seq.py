"""Read `be_seq.csv`, the scene definition of a BEDLAM or BEDLAM2 render job."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from opendimo.pipelines.engine.stage import DataError
from opendimo.pipelines.sources.renders.text_files import read_table

SAFE_NAME = re.compile(
    r"[A-Za-z0-9_\-][A-Za-z0-9_.\-]{0,127}"
)  # names become paths: reject folders, "..", hidden files
MAX_FRAMES = 1_000_000
POSE = ("X", "Y", "Z", "Yaw", "Pitch", "Roll")


@dataclass(frozen=True)
class PlacedBody:
    """A body of a sequence: name `<subject>_<animation>`, position in cm, yaw in degrees, first frame of its motion."""

    name: str
    position: tuple[float, float, float]
    yaw: float
    start_frame: int

    @property
    def subject(self) -> str:
        return self.name if self.name.startswith("moyo_") else self.name.rpartition("_")[0] or self.name

    @property
    def animation(self) -> str:
        return self.name.removeprefix(self.subject).removeprefix("_")


@dataclass
class Sequence:
    """A sequence of a render job.

    `problem`: what is wrong with its rows; `frames`: number of frames, if stated; `ground`: height in cm; `static`: the
    static camera, as [x, y, z, yaw, pitch, roll] of its root, the same of the camera relative to the root, and the
    horizontal field of view in degrees.
    """

    name: str
    bodies: list[PlacedBody] = field(default_factory=list)
    problem: str | None = None
    frames: int | None = None
    ground: float | None = None
    static: tuple[list[float], list[float], float] | None = None


def read_sequences(path: Path) -> list[Sequence]:
    """Read the sequences of a `be_seq.csv` in file order. Raises `DataError` if it is not such a file.

    A bad row makes only its own sequence unusable.
    """
    rows = read_table(path)
    if not rows or not {"Type", "Body", "X", "Y", "Z", "Yaw", "Comment"} <= set(rows[0]):
        raise DataError(f"{path}: no rows, or not the header Index,Type,Body,X,Y,Z,Yaw,Pitch,Roll,Comment")
    sequences: list[Sequence] = []
    for line, row in enumerate(rows, start=2):
        if row["Type"] == "Group":
            sequences.append(_group(path, line, row))
        elif row["Type"] == "Body" and sequences:
            try:
                sequences[-1].bodies.append(_body(row))
            except (ValueError, TypeError) as error:  # TypeError: a truncated row
                sequences[-1].problem = f"{path} line {line}: {error}"
    names = [sequence.name for sequence in sequences]
    for number, sequence in enumerate(sequences):
        if sequence.name in names[:number]:
            sequence.problem = f"{path}: sequence {sequence.name} is there twice: keep one of them"
            sequence.name = f"{sequence.name} (group {number})"
        elif not sequence.bodies and not sequence.problem:
            sequence.problem = f"{path}: sequence {sequence.name} has no Body row"
    return sequences


def _group(path: Path, line: int, row: dict[str, Any]) -> Sequence:
    facts = _facts(row["Comment"])
    name = facts.get("sequence_name", "")
    if not SAFE_NAME.fullmatch(name):
        problem = f"{path} line {line}: sequence_name {name!r} is missing or no file name"
        return Sequence(f"line {line}", problem=problem)
    try:
        frames = int(facts["frames"]) if "frames" in facts else None
        if frames is not None and not 0 < frames <= MAX_FRAMES:
            raise ValueError(f"frames={frames} should be between 1 and {MAX_FRAMES}")
        ground = _number(facts["ground_height_world"]) if "ground_height_world" in facts else None
        return Sequence(name, frames=frames, ground=ground, static=_static(row, facts))
    except ValueError as error:
        return Sequence(name, problem=f"{path} line {line}: {error}")


def _static(row: dict[str, Any], facts: dict[str, str]) -> tuple[list[float], list[float], float] | None:
    if "camera_hfov" not in facts or any(not row.get(column) for column in POSE):
        return None
    root = [_number(facts.get(f"cameraroot_{name}", "0")) for name in ("x", "y", "z", "yaw", "pitch", "roll")]
    return root, [_number(row[column]) for column in POSE], _number(facts["camera_hfov"])


def _body(row: dict[str, Any]) -> PlacedBody:
    name = row["Body"]
    if not SAFE_NAME.fullmatch(name):
        raise ValueError(f"body name {name!r} is no file name")
    x, y, z, yaw = (_number(row[column]) for column in ("X", "Y", "Z", "Yaw"))
    return PlacedBody(name, (x, y, z), yaw, int(_facts(row["Comment"]).get("start_frame", "0")))


def _number(text: str) -> float:
    value = float(text)
    if not np.isfinite(value):
        raise ValueError(f"{text} is not a finite number")
    return value


def _facts(comment: str | None) -> dict[str, str]:
    """Parse `key=value;...` into a dict."""
    return dict(part.split("=", 1) for part in (comment or "").split(";") if "=" in part)
