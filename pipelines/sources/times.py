"""Read `timestamps.csv`, the capture time of each frame, from beside the videos of a rig.

The format is caliscope's: one row per frame with the camera (`cam_id`, `camera` or `view`) and the time in seconds
(`frame_time`, `time` or `timestamp`). The rows of a camera are its frames, in file order.
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
    """Return the frame times [T] of `camera` in ns.

    Raises `DataError` if the file is unreadable, does not have `frames` times, or the times do not increase.
    """
    seconds = []
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream)
            camera_column, time_column = (_column(reader.fieldnames or [], names, path) for names in (CAMERA, TIME))
            for number, row in enumerate(reader):
                if number > MAX_ROWS:
                    raise DataError(f"{path}: more than {MAX_ROWS} rows")
                if _same(row[camera_column], camera) and row[time_column]:
                    seconds.append(float(row[time_column]))
    except (OSError, UnicodeDecodeError, csv.Error, ValueError, TypeError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path}: cannot read the frame times: {error}; correct or remove the file") from error
    times = np.array(seconds)
    if frames is not None and len(times) != frames:
        text = f"{path}: {len(times)} times of camera {camera}, whose video has {frames} frames: correct or remove it"
        raise DataError(text)
    if not np.isfinite(times).all() or (np.diff(times) <= 0).any() or abs(times).max(initial=0) > 9e9:
        raise DataError(f"{path}: the times of camera {camera} do not increase, or are not in seconds: correct them")
    return np.round(times * 1e9).astype(np.int64)


def _column(names: object, accepted: tuple[str, ...], path: Path) -> str:
    column = next((name for name in accepted if name in list(names)), None)  # type: ignore[call-overload]
    if column is None:
        raise DataError(f"{path}: no column {' or '.join(accepted)}: rename the column, or remove the file")
    return column


def _same(written: str | None, camera: str) -> bool:
    return written == camera or (str(written).isdecimal() and camera.isdecimal() and int(str(written)) == int(camera))
