"""`timestamps.csv` beside the videos of a rig: when each frame was taken.

A row per frame with the camera (`cam_id`, `camera` or `view`) and its time in seconds (`frame_time`, `time` or
`timestamp`), as caliscope writes it; the rows of a camera are its frames, in the order of the file.
"""

import csv
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from opendimo.pipelines.engine.stage import DataError

CAMERA = ("cam_id", "camera", "view", "port")
TIME = ("frame_time", "time", "timestamp")
MAX_ROWS = 20_000_000


def read_times(path: Path, camera: str, frames: int | None) -> NDArray[np.int64]:
    """Times [T] of the frames of `camera`, ns. Raises `DataError` where they are no times of `frames` frames."""
    seconds = []
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream)
            who, when = (_column(reader.fieldnames or [], names, path) for names in (CAMERA, TIME))
            for number, row in enumerate(reader):
                if number > MAX_ROWS:
                    raise DataError(f"{path}: more than {MAX_ROWS} rows")
                if _same(row[who], camera) and row[when]:
                    seconds.append(float(row[when]))
    except (OSError, UnicodeDecodeError, csv.Error, ValueError, TypeError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path}: not readable times: {error}") from error
    times = np.array(seconds)
    if frames is not None and len(times) != frames:
        raise DataError(f"{path}: {len(times)} times of camera {camera}, whose video has {frames} frames: remove it?")
    if not np.isfinite(times).all() or (np.diff(times) <= 0).any() or abs(times).max(initial=0) > 9e9:
        raise DataError(f"{path}: the times of camera {camera} do not go up, or are no seconds")
    return np.round(times * 1e9).astype(np.int64)


def _column(names: object, wanted: tuple[str, ...], path: Path) -> str:
    found = next((name for name in wanted if name in list(names)), None)  # type: ignore[call-overload]
    if found is None:
        raise DataError(f"{path}: no column {' or '.join(wanted)}: name it so, or remove the file")
    return found


def _same(written: str | None, camera: str) -> bool:
    return written == camera or (str(written).isdecimal() and camera.isdecimal() and int(str(written)) == int(camera))
