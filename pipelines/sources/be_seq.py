"""Reading the text files of a BEDLAM or BEDLAM2 render job: `be_seq.csv` and the camera of each sequence."""

import csv
import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipelines.stage import DataError

SAFE_NAME = re.compile(r"[A-Za-z0-9_\-][A-Za-z0-9_.\-]*")  # names become paths: no folders, no "..", not hidden
CAMERA_COLUMNS = ("x", "y", "z", "yaw", "pitch", "roll", "focal_length", "sensor_width", "sensor_height")


@dataclass(frozen=True)
class PlacedBody:
    """A body of a sequence: `<subject>_<animation>`, position in cm, yaw in degrees, first frame of its motion."""

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
    """A sequence of a render job; `problem` says what is wrong with its rows."""

    name: str
    bodies: list[PlacedBody] = field(default_factory=list)
    problem: str | None = None


def read_sequences(path: Path) -> list[Sequence]:
    """The sequences of a `be_seq.csv`, in its order. Raises `DataError` where it is no such file.

    A bad row spoils only its sequence.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            rows = list(csv.DictReader(stream))
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: not a CSV text file: {error}") from error
    if not rows or not {"Type", "Body", "X", "Y", "Z", "Yaw", "Comment"} <= set(rows[0]):
        raise DataError(f"{path}: no rows, or not the header Index,Type,Body,X,Y,Z,Yaw,Pitch,Roll,Comment")
    sequences: list[Sequence] = []
    for line, row in enumerate(rows, start=2):
        if row["Type"] == "Group":
            sequences.append(_group(path, line, row))
        elif row["Type"] == "Body" and sequences:
            try:
                sequences[-1].bodies.append(_body(row))
            except (ValueError, TypeError) as error:  # TypeError: a row that breaks off
                sequences[-1].problem = f"{path} line {line}: {error}"
    names = [sequence.name for sequence in sequences]
    for place, sequence in enumerate(sequences):
        if sequence.name in names[:place]:
            sequence.problem = f"{path}: sequence {sequence.name} is there twice: keep one of them"
            sequence.name = f"{sequence.name} (group {place})"
        elif not sequence.bodies and not sequence.problem:
            sequence.problem = f"{path}: sequence {sequence.name} has no Body row"
    return sequences


def read_cameras(path: Path) -> NDArray[np.float64]:
    """The per-frame camera of a sequence: [T, 9] in the order of `CAMERA_COLUMNS`, row i for image i.

    Raises `DataError` where columns are missing, numbers are not finite, or images are missing between the rows.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            rows = list(csv.DictReader(stream))
        table = np.array([[float(row[column]) for column in CAMERA_COLUMNS] for row in rows])
        images = [int(Path(row["name"]).stem.rpartition("_")[2]) for row in rows]
    except FileNotFoundError as error:
        raise DataError(f"no camera file {path}: copy the job's ground_truth folder beside its videos") from error
    except (KeyError, TypeError, ValueError, csv.Error) as error:
        raise DataError(f"{path}: not a camera CSV (name,{','.join(CAMERA_COLUMNS)},hfov): {error!r}") from error
    if not len(table) or not np.isfinite(table).all() or (table[:, 6:] <= 0).any():
        raise DataError(f"{path}: no rows, or numbers that are not finite, or lengths that are not positive")
    if images != list(range(len(images))):
        raise DataError(f"{path}: rows must be images 0 to {len(images) - 1} in order, one for each video frame")
    return table


def _group(path: Path, line: int, row: dict[str, str]) -> Sequence:
    facts = _facts(row["Comment"])
    name = facts.get("sequence_name", "")
    if not SAFE_NAME.fullmatch(name):
        return Sequence(
            f"line {line}", problem=f"{path} line {line}: sequence_name {name!r} is missing or no file name"
        )
    return Sequence(name)


def _body(row: dict[str, str]) -> PlacedBody:
    name = row["Body"]
    if not SAFE_NAME.fullmatch(name):
        raise ValueError(f"body name {name!r} is no file name")
    x, y, z, yaw = (float(row[column]) for column in ("X", "Y", "Z", "Yaw"))
    if not np.isfinite([x, y, z, yaw]).all():
        raise ValueError("position and yaw must be finite numbers")
    return PlacedBody(name, (x, y, z), yaw, int(_facts(row["Comment"]).get("start_frame", "0")))


def _facts(comment: str | None) -> dict[str, str]:
    """`key=value;...` -> dict."""
    return dict(part.split("=", 1) for part in (comment or "").split(";") if "=" in part)
