"""Read the cameras of a BEDLAM or BEDLAM2 sequence, from one of these sources, best first.

1. `csv`: a row per picture, with the camera that the engine rendered.
2. `meta`: BEDLAM2's JSON per picture, from which the CSV is made.
3. `animation`: BEDLAM2's `be_camera_animations.json`: keyframes, without camera shake or following of a body.
4. `static`: the pose in `be_seq.csv`, for jobs with "static" in their name.
"""

import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from opendimo.pipelines.engine.stage import DataError
from opendimo.pipelines.sources.renders import unreal_axes
from opendimo.pipelines.sources.renders.cameras import Cameras, compose, finite_numbers, turn_clockwise, unit_intrinsics
from opendimo.pipelines.sources.renders.text_files import read_object, read_table

Array = NDArray[np.float64]
COLUMNS = ("x", "y", "z", "yaw", "pitch", "roll", "focal_length", "sensor_width", "sensor_height")
META = "unreal/camera/"
META_KEYS = tuple(
    [f"{META}curPos/{axis}" for axis in "xyz"]
    + [f"{META}curRot/{angle}" for angle in ("yaw", "pitch", "roll")]
    + [f"{META}FinalImage/{name}" for name in ("focalLength", "sensorWidth", "sensorHeight")]
)
META_NAME = re.compile(r".*_(\d+)_meta\.json")
SENSOR = (36.0, 20.25)  # mm; assumed if only the angle of view is given
NOT_IN_KEYFRAMES = ("camera_shake", "follow_camera_distance", "vcam_capture", "look_at_bodypart")
AGREE = 0.01  # tolerance in cm, degrees and mm between CSV and JSON of a picture; both have six decimals


def read_cameras(source: dict[str, Any], *, turned: bool) -> Cameras:
    """Read the cameras of a sequence.

    `source`: `{"kind": ..., "path": ..., ...}` from `bedlam`; `turned`: pictures are rendered rotated by 90 degrees.
    Raises `DataError` if files are unreadable, incomplete, or contradict each other.
    """
    match source["kind"]:
        case "csv":
            table, numbers = read_csv(Path(source["path"]))
            if source["meta"]:
                _compare(Path(source["path"]), table, numbers, Path(source["meta"]))
        case "meta":
            table, numbers = _read_meta(Path(source["path"]))
        case "animation":
            pose, hfov = _read_animation(Path(source["path"]), source["sequence"], source["frames"])
            return _by_angle(pose, hfov, source["frames"], turned)
        case _:
            root, local, hfov = source["static"]
            pose = compose(_pose(np.array([local])), _pose(np.array([root])))
            return _by_angle(pose, np.array([hfov]), source["frames"], turned)
    pose = turn_clockwise(_pose(table[:, :6]), 90 if turned else 0)
    sensor = np.sort(table[:, 7:9])[:, ::-1] if turned else table[:, 7:9]  # the rendered sensor is wider than high
    return Cameras(pose, unit_intrinsics(table[:, 6], sensor, turned=turned), numbers)


def read_csv(path: Path) -> tuple[Array, range]:
    """Read a camera CSV: table [T, 9] in the order of `COLUMNS`, and its picture numbers.

    Raises `DataError` if columns are missing, numbers are not finite, or pictures are missing between the rows.
    """
    rows = read_table(path)
    try:
        table = [[float(row[column]) for column in COLUMNS] for row in rows]
        images = [int(Path(row["name"]).stem.rpartition("_")[2]) for row in rows]
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path}: not a camera CSV (name,{','.join(COLUMNS)},hfov): {error!r}") from error
    return _lengths(path, finite_numbers(str(path), table, len(COLUMNS))), _numbers(path, images)


def _read_meta(folder: Path) -> tuple[Array, range]:
    files = _meta_files(folder)
    if not files:
        raise DataError(f"{folder}: no *_meta.json of any picture: copy the job's ground_truth folder")
    table = finite_numbers(str(folder), [_meta_row(file) for _, file in sorted(files.items())], len(COLUMNS))
    return _lengths(folder, table), _numbers(folder, sorted(files))


def _meta_row(file: Path) -> list[float]:
    facts = read_object(file)
    try:
        return [float(facts[key]) for key in META_KEYS]
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{file}: no camera of a picture: {error!r}") from error


def _meta_files(folder: Path) -> dict[int, Path]:
    return {int(match[1]): file for file in folder.iterdir() if (match := META_NAME.fullmatch(file.name))}


def _compare(path: Path, table: Array, numbers: range, meta: Path) -> None:
    """Raise `DataError` unless the JSON of the first, middle and last picture agrees with the CSV."""
    files = sorted(_meta_files(meta).items())
    for number, file in {index: files[index] for index in (0, len(files) // 2, -1) if files}.values():
        if number not in numbers:
            raise DataError(f"{file}: {path} has no row of picture {number}: they are of different renders")
        meta_row, csv_row = np.array(_meta_row(file)), table[numbers.index(number)]
        if not (abs(meta_row - csv_row) <= AGREE).all():  # also true for NaN
            column = COLUMNS[int(np.argmax(abs(meta_row - csv_row)))]
            raise DataError(f"{file}: {column} is not that of {path}: they are of different renders")


def _read_animation(path: Path, sequence: str, frames: int | None) -> tuple[Array, Array]:
    """Return camera poses [T, 3, 4] and horizontal angles of view [T], interpolated between linear keyframes."""
    where = f"{path} {sequence}"
    entry: Any = read_object(path).get(sequence)
    if frames is None:
        raise DataError(f"{where}: the number of frames is not stated: copy the job's ground_truth folder")
    try:
        keys = sorted(entry["keyframes"], key=lambda key: int(key["frame_index"]))
        effects = {
            name for name in NOT_IN_KEYFRAMES if entry.get("info", {}).get(name) not in (None, False, 0, "", "none")
        }
        index = [int(key["frame_index"]) for key in keys]
        table = [[*_six(key["cameraroot"]), *_six(key["camera_local"]), float(key["hfov"])] for key in keys]
        linear = all(key["type"] == "linear" for key in keys)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise DataError(f"{where}: no keyframes of a camera: {error!r}") from error
    if effects or not (linear or set(range(frames)) <= set(index)):
        what = ", ".join(sorted(effects)) or "keyframes that are not linear"
        raise DataError(f"{where}: {what} leave the camera pose undetermined: copy the job's ground_truth folder")
    values = finite_numbers(where, table, 13)
    at = np.stack([np.interp(range(frames), index, column) for column in values.T], axis=1)  # [T, 13]
    return compose(_pose(at[:, 6:12]), _pose(at[:, :6])), at[:, 12]


def _six(pose: dict[str, Any]) -> list[float]:
    angles = [float(pose.get(name, 0)) for name in ("yaw", "pitch", "roll")]
    return [float(pose[name]) for name in "xyz"] + angles


def _by_angle(pose: Array, hfov: Array, frames: int | None, turned: bool) -> Cameras:
    if not ((hfov > 0) & (hfov < 180)).all():
        raise DataError("the camera's angle of view should be between 0 and 180 degrees")
    focal = SENSOR[0] / 2 / np.tan(np.deg2rad(hfov) / 2)
    K = unit_intrinsics(focal, np.tile(SENSOR, (len(focal), 1)), turned=turned)
    return Cameras(turn_clockwise(pose, 90 if turned else 0), K, range(frames) if frames else None)


def _pose(six: Array) -> Array:
    """Convert x, y, z, yaw, pitch, roll [T, 6] to world to camera [T, 3, 4]."""
    return unreal_axes.world_to_camera(six[:, :3], six[:, 3:6])


def _lengths(path: Path, table: Array) -> Array:
    if (table[:, 6:] <= 0).any():
        raise DataError(f"{path}: focal length or sensor is not positive in row {int(table[:, 6:].min(1).argmin())}")
    return table


def _numbers(path: Path, images: list[int]) -> range:
    step = images[1] - images[0] if len(images) > 1 else 1
    expected = range(0, max(step, 1) * len(images), max(step, 1))
    if images != list(expected):
        raise DataError(f"{path}: rows must be pictures 0, 1, 2 ... in order (or 0, 5, 10 ...), one for each frame")
    return expected
