"""COLMAP format: the `cameras` and `images` files of a model, text or binary, after COLMAP's documentation.

COLMAP counts pixels from the corner of the image, as this project does; `qvec` (w x y z) and `tvec` are world to
camera. The scale of a reconstruction is arbitrary, so lengths are not metric.
"""

import json
import struct
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from opendimo.pipelines.engine.stage import DataError
from opendimo.pipelines.sources.calibration import FISHEYE, OPENCV, Calibration
from opendimo.pipelines.sources.calibrations.document import Document
from opendimo.pipelines.sources.calibrations.shots import Lens, Shot, gather
from opendimo.pipelines.sources.items import fingerprint

NAME = "COLMAP (text, binary)"
MODELS = (
    ("SIMPLE_PINHOLE", 3), ("PINHOLE", 4), ("SIMPLE_RADIAL", 4), ("RADIAL", 5), ("OPENCV", 8), ("OPENCV_FISHEYE", 8),
    ("FULL_OPENCV", 12), ("FOV", 5), ("SIMPLE_RADIAL_FISHEYE", 4), ("RADIAL_FISHEYE", 5), ("THIN_PRISM_FISHEYE", 12),
)  # fmt: skip
"""Name and number of parameters of each camera model, in the order of COLMAP's model ids."""
ONE_FOCAL = {"SIMPLE_PINHOLE", "SIMPLE_RADIAL", "RADIAL", "SIMPLE_RADIAL_FISHEYE", "RADIAL_FISHEYE"}
LENSES = {
    "SIMPLE_PINHOLE": (OPENCV, ()),
    "PINHOLE": (OPENCV, ()),
    "SIMPLE_RADIAL": (OPENCV, (0, None, None, None)),
    "RADIAL": (OPENCV, (0, 1, None, None)),
    "OPENCV": (OPENCV, (0, 1, 2, 3)),
    "FULL_OPENCV": (OPENCV, (0, 1, 2, 3, 4, 5, 6, 7)),
    "OPENCV_FISHEYE": (FISHEYE, (0, 1, 2, 3)),
    "SIMPLE_RADIAL_FISHEYE": (FISHEYE, (0, None, None, None)),
    "RADIAL_FISHEYE": (FISHEYE, (0, 1, None, None)),
}
"""For each COLMAP model with an OpenCV equivalent: the OpenCV model, and for each of its coefficients the index of
COLMAP's parameter after the principal point (None: zero)."""
MAX_IMAGES = 10_000_000
MAX_BYTES = 2 << 30  # per file: `images` also lists the points observed in each image


def fits(document: Document) -> bool:
    """Return whether the document is a COLMAP model."""
    return document.syntax == "COLMAP"


def read(document: Document) -> Calibration:
    """Read the cameras of all registered images. Raises `DataError` if a file is too large or malformed."""
    files: tuple[Path, Path] = document.tree
    for file in files:
        if (size := file.stat().st_size) > MAX_BYTES:
            raise DataError(f"{file}: {size} bytes, more than {MAX_BYTES}: give a model of fewer images")
    return _read(files, json.dumps([fingerprint(file) for file in files]))


@lru_cache(maxsize=1)  # every view of a rig reads the same model
def _read(files: tuple[Path, Path], _prints: str) -> Calibration:
    binary = files[0].suffix == ".bin"
    try:
        cameras = dict(_cameras_bin(files[0]) if binary else _cameras_txt(files[0]))
        shots = [
            Shot(name, cameras[camera], Rotation.from_quat([*q[1:], q[0]]).as_matrix(), np.array(t))
            for name, camera, q, t in (_images_bin(files[1]) if binary else _images_txt(files[1]))
        ]
    except (struct.error, IndexError, UnicodeDecodeError) as error:
        raise DataError(f"{files[0].parent}: the COLMAP model breaks off or is no such: {error}") from error
    return gather(files, NAME, shots, metric=False, gravity_down=None)


def lens_of(model: str, size: tuple[int, int], params: list[float]) -> Lens:
    """Return the lens of a COLMAP camera. Models without an OpenCV equivalent keep their COLMAP name."""
    lead = 1 if model in ONE_FOCAL else 2
    fx, fy, (cx, cy) = params[0], params[lead - 1], params[lead : lead + 2]
    K = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])
    rest = params[lead + 2 :]
    name, indices = LENSES.get(model, (model, ()))
    return Lens(size, K, tuple(0.0 if k is None else rest[k] for k in indices), name)


def _cameras_txt(path: Path) -> Iterator[tuple[int, Lens]]:
    known = dict(MODELS)
    for line in _lines(path):
        number, model, width, height, *params = line.split()
        if known.get(model) != len(params):
            raise DataError(f"{path}: camera {number}: {model} with {len(params)} parameters is no model of COLMAP")
        yield int(number), lens_of(model, (int(width), int(height)), [float(p) for p in params])


def _images_txt(path: Path) -> Iterator[tuple[str, int, Any, Any]]:
    lines = _lines(path, keep_empty=True)
    for line in lines:
        if not line.strip():
            continue
        _, *numbers, name = line.split(maxsplit=9)
        yield name.strip(), int(numbers[7]), [float(n) for n in numbers[:4]], [float(n) for n in numbers[4:7]]
        next(lines, None)  # skip the line of observed points, which may be empty


def _lines(path: Path, keep_empty: bool = False) -> Iterator[str]:
    with path.open(encoding="utf-8") as stream:
        for line in stream:
            if not line.startswith("#") and (keep_empty or line.strip()):
                yield line


def _cameras_bin(path: Path) -> Iterator[tuple[int, Lens]]:
    data, at = path.read_bytes(), 8
    for _ in range(_count(data, path)):
        number, model, width, height = struct.unpack_from("<iiQQ", data, at)
        if not 0 <= model < len(MODELS):
            raise DataError(f"{path}: camera {number}: model {model} is none of COLMAP's")
        name, count = MODELS[model]
        params = struct.unpack_from(f"<{count}d", data, at + 24)
        at += 24 + 8 * count
        yield number, lens_of(name, (width, height), list(params))


def _images_bin(path: Path) -> Iterator[tuple[str, int, Any, Any]]:
    data, at = path.read_bytes(), 8
    for _ in range(_count(data, path)):
        values = struct.unpack_from("<i7di", data, at)
        end = data.index(b"\0", at + 64)
        name = data[at + 64 : end].decode()
        (points,) = struct.unpack_from("<Q", data, end + 1)
        at = end + 9 + 24 * points  # x, y and point id of each observation
        if at > len(data):
            raise DataError(f"{path}: the COLMAP model breaks off at image {name}")
        yield name, values[8], values[1:5], values[5:8]


def _count(data: bytes, path: Path) -> int:
    (count,) = struct.unpack_from("<Q", data)
    if count > MAX_IMAGES:
        raise DataError(f"{path}: says it has {count} entries: it is no file of COLMAP")
    return int(count)
