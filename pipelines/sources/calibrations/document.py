"""Parse a calibration file (JSON, TOML, XML, OpenCV's YAML, rows, npz) into dicts, lists, numbers and arrays."""

import json
import tomllib
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import cv2
import numpy as np
from numpy.typing import NDArray

from opendimo.pipelines.engine.stage import DataError

MAX_BYTES = 256 << 20
MAX_NUMBERS = 1 << 23
"""Most numbers read from an archive; its larger arrays are pictures, of which only the shape is read."""
COLMAP_PARTS = ("cameras", "images")


@dataclass(frozen=True)
class Document:
    """A parsed file.

    `syntax`: JSON, TOML, XML, OpenCV, COLMAP, rows or npz; empty if it is none of these, and then `problem` says why.
    `tree`: the content as dicts, lists, numbers and strings; for XML the root element, for COLMAP the paths of the
    model's files, for rows an array, for npz `Archive`.
    """

    path: Path
    syntax: str
    tree: Any
    problem: str = ""


@dataclass(frozen=True)
class Archive:
    """Arrays of an npz by name: the `shapes` of all, and the numbers of those that may be of cameras."""

    shapes: dict[str, tuple[int, ...]]
    arrays: dict[str, NDArray[np.float64]]


def read_document(path: Path) -> Document:
    """Read a calibration file or a COLMAP folder. Raises `DataError` if it is missing, too large, or not text."""
    if model := colmap_files(path):
        return Document(path, "COLMAP", model)
    if path.is_file() and zipfile.is_zipfile(path):
        return Document(path, "npz", _npz(path))
    try:
        if path.stat().st_size > MAX_BYTES:
            raise DataError(f"{path}: larger than {MAX_BYTES} bytes, no calibration is")
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not a readable calibration: {error}") from error
    start = text.lstrip()[:500]
    if start.startswith("%YAML") or "<opencv_storage" in start:
        return _opencv(path, text)
    if start.startswith("<"):
        return _xml(path, text)
    if (rows := _rows(text)) is not None:
        return Document(path, "rows", rows)
    return _json_or_toml(path, text)


def _npz(path: Path) -> Archive:
    """Read an archive without pickles, by the headers of its arrays first. Raises `DataError` if it is none."""
    left = MAX_NUMBERS
    shapes, arrays = dict[str, tuple[int, ...]](), dict[str, NDArray[np.float64]]()
    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.namelist():
                if not member.endswith(".npy"):
                    raise DataError(f"{path}: {member[:80]} is no array: this is no npz of cameras")
                with archive.open(member) as file:
                    major, _ = np.lib.format.read_magic(file)
                    header = np.lib.format.read_array_header_1_0 if major == 1 else np.lib.format.read_array_header_2_0
                    shape, _, kind = header(file)
                name = member.removesuffix(".npy")
                shapes[name] = shape
                small = len(shape) < 2 or (len(shape) <= 3 and shape[-1] <= 4)
                count = float(np.prod(shape, dtype=np.float64))
                if kind.kind in "fiu" and small and count <= left:
                    left -= int(count)
                    with archive.open(member) as file:
                        arrays[name] = np.lib.format.read_array(file, allow_pickle=False).astype(np.float64)
                elif kind.hasobject:
                    raise DataError(f"{path}: {name} holds pickled objects, which can run code: save arrays of numbers")
    except (zipfile.BadZipFile, ValueError, OSError, EOFError, NotImplementedError, RuntimeError) as error:
        raise DataError(f"{path}: not a readable npz: {error}") from error
    return Archive(shapes, arrays)


def colmap_files(path: Path) -> tuple[Path, Path] | None:
    """Return the cameras and images files of a COLMAP model, given its folder or one of them; None if incomplete."""
    if path.is_file() and path.stem not in COLMAP_PARTS:
        return None
    folder = path if path.is_dir() else path.parent
    for suffix in (".bin", ".txt"):
        cameras, images = (folder / f"{part}{suffix}" for part in COLMAP_PARTS)
        if cameras.is_file() and images.is_file():
            return cameras, images
    return None


def matrices(tree: Any) -> Any:
    """Return the tree with OpenCV's matrices (rows and cols, or sizes, with data) converted to lists."""
    if isinstance(tree, dict):
        if "data" in tree and ("sizes" in tree or {"rows", "cols"} <= set(tree)):
            return _matrix(tree)
        return {key: matrices(value) for key, value in tree.items()}
    return [matrices(value) for value in tree] if isinstance(tree, list) else tree


def _matrix(node: dict[str, Any]) -> Any:
    try:
        sizes = np.atleast_1d(node["sizes"] if "sizes" in node else [node["rows"], node["cols"]])
        return np.array(node["data"], np.float64).reshape([abs(int(n)) for n in sizes]).tolist()
    except (TypeError, ValueError, OverflowError) as error:
        raise DataError(f"a matrix is not what it says: {error}") from error


def _rows(text: str) -> NDArray[np.float64] | None:
    """Return lines of equally many numbers as an array, without comments and a first line with a URL; else None."""
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    lines = lines[1:] if lines and "://" in lines[0] else lines
    try:
        rows = np.array([[float(word) for word in line.replace(",", " ").split()] for line in lines])
    except ValueError:
        return None
    return rows if rows.ndim == 2 and len(rows) > 1 and rows.shape[1] > 1 and np.isfinite(rows).all() else None


def _json_or_toml(path: Path, text: str) -> Document:
    problems = []
    for syntax, parse in (("JSON", json.loads), ("TOML", tomllib.loads)):
        try:
            return Document(path, syntax, matrices(parse(text)))
        except RecursionError as error:
            raise DataError(f"{path}: nested too deeply for a calibration") from error
        except DataError:
            raise
        except ValueError as error:
            problems.append(f"{syntax} ({error})")
    return Document(path, "", None, f"{', '.join(problems)}, XML or OpenCV's YAML (%YAML:1.0)")


def _xml(path: Path, text: str) -> Document:
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise DataError(f"{path}: XML with a DOCTYPE, which a calibration does not need: take it out")
    try:
        return Document(path, "XML", ElementTree.fromstring(text.lstrip()))
    except ElementTree.ParseError as error:
        return Document(path, "", None, f"XML ({error})")


def _opencv(path: Path, text: str) -> Document:
    """Parse a file of `cv2.FileStorage`, YAML or XML."""
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise DataError(f"{path}: XML with a DOCTYPE, which a calibration does not need: take it out")
    try:
        storage = cv2.FileStorage(text, cv2.FILE_STORAGE_READ | cv2.FILE_STORAGE_MEMORY)
        return Document(path, "OpenCV", matrices(_tree(storage.root(), 0)))
    except cv2.error as error:
        return Document(path, "", None, f"OpenCV's YAML or XML ({error.err})")


def _tree(node: Any, depth: int) -> Any:
    if depth > 20:
        raise DataError("nested too deeply for a calibration")
    if node.isMap():
        return {key: _tree(node.getNode(key), depth + 1) for key in node.keys()}  # noqa: SIM118
    if node.isSeq():
        return [_tree(node.at(i), depth + 1) for i in range(node.size())]
    if node.isString():
        return node.string()
    return node.real() if node.isReal() or node.isInt() else None
