"""Read numbered image files as one source, given by a pattern like those of FFmpeg: `folder/name_%04d.png`.

Images are read in the order of their numbers, which must increase by a constant step (for example 5 if only every
fifth frame of a render was kept). A pattern has no timing information: the caller must know the frame rate.
"""

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from opendimo.storage_schemas.ids import sha256_file

Frame = NDArray[np.uint8]
PATTERN = re.compile(r"(?P<prefix>[^%]*)%(?:0(?P<digits>[1-9]))?d(?P<suffix>[^%]*\.(?:png|jpe?g))", re.IGNORECASE)
NUMBERED = re.compile(r"(?P<prefix>.*?)(?P<number>\d+)(?P<suffix>\.(?:png|jpe?g))", re.IGNORECASE)
CODECS = {"PNG": "png", "JPEG": "mjpeg"}
MAX_PIXELS = 1 << 26


@dataclass(frozen=True)
class ImageSequence:
    """The images of a pattern: their `numbers` in order, and the path of each."""

    pattern: Path
    numbers: range
    paths: tuple[Path, ...]

    def sha256(self) -> str:
        """Return a hash of the bytes of all images in order, independent of file names."""
        digest = hashlib.sha256()
        for path in self.paths:
            digest.update(bytes.fromhex(sha256_file(path)))
        return digest.hexdigest()

    def size(self) -> int:
        """Return the total size of all images in bytes."""
        return sum(path.stat().st_size for path in self.paths)

    def facts(self) -> tuple[str, int, int]:
        """Return (codec, width, height) from the image headers. Raises `ValueError` if they differ between images."""
        size, codec = _size(self.paths[0])
        for path in self.paths:
            if (facts := _size(path)) != (size, codec):
                raise ValueError(
                    f"{path.name} is {facts}, {self.paths[0].name} is {(size, codec)}: "
                    "all images must have the same size and format"
                )
        return codec, *size


def is_pattern(source: object) -> bool:
    """Return whether `source` is a pattern of an image sequence, and not a file."""
    return isinstance(source, str | Path) and PATTERN.fullmatch(Path(source).name) is not None


def pattern_of(folder: Path) -> Path | None:
    """Return the pattern of the images in a folder; None if it contains none.

    Raises `ValueError` if it contains several sequences, or if a name contains a percent sign.
    """
    digits: dict[tuple[str, str], set[str]] = {}
    for name in _names(folder):
        if match := NUMBERED.fullmatch(name):
            digits.setdefault((match["prefix"], match["suffix"]), set()).add(match["number"])
    if not digits:
        return None
    if len(digits) > 1:
        names = ", ".join(f"{prefix}*{suffix}" for prefix, suffix in sorted(digits))
        raise ValueError(f"{folder}: images of several sequences ({names}): keep one sequence per folder")
    [((prefix, suffix), numbers)] = digits.items()
    if "%" in prefix:
        raise ValueError(f"{folder}: the name of an image contains a percent sign: rename the images")
    shortest = min(map(len, numbers))
    padded = len({len(number) for number in numbers}) == 1 or any(number.startswith("0") for number in numbers)
    return folder / f"{prefix}%{f'0{shortest}' if padded and shortest < 10 else ''}d{suffix}"


def open_sequence(pattern: str | Path) -> ImageSequence:
    """List the images of a pattern in the order of their numbers.

    Raises `FileNotFoundError` if there is none, and `ValueError` if one is missing in between.
    """
    pattern = Path(pattern)
    match = PATTERN.fullmatch(pattern.name)
    if match is None:
        raise ValueError(f"{pattern}: not a pattern of images like name_%04d.png")
    digits = int(match["digits"] or 1)
    regex = re.compile(rf"{re.escape(match['prefix'])}(\d{{{digits},18}}){re.escape(match['suffix'])}")
    name_of = {
        int(hit[1]): name
        for name in _names(pattern.parent)
        if (hit := regex.fullmatch(name)) and _is_padded_to(hit[1], digits)
    }
    if not name_of:
        raise FileNotFoundError(f"{pattern}: no image matches this pattern")
    ordered = sorted(name_of)
    step = min((after - before for before, after in pairwise(ordered)), default=1)
    numbers = range(ordered[0], ordered[-1] + 1, step)
    if len(numbers) != len(ordered) or any(number not in numbers for number in ordered):
        gap = next(before for before, after in pairwise(ordered) if after - before != step)
        raise ValueError(f"{pattern}: image {gap + step} is missing: numbers must increase by a constant step")
    return ImageSequence(pattern, numbers, tuple(pattern.parent / name_of[number] for number in ordered))


def frames(pattern: str | Path) -> Iterator[Frame]:
    """Yield all images as RGB [H, W, 3], one at a time. Raises `ValueError` if one cannot be read."""
    for path in open_sequence(pattern).paths:
        yield _read(path)


def _read(path: Path) -> Frame:
    _size(path)
    try:
        with Image.open(path, formats=tuple(CODECS)) as image:
            return np.array(image.convert("RGB"), np.uint8)
    except (OSError, SyntaxError) as error:
        raise ValueError(f"{path.name}: not a readable image: {error}") from error


def _size(path: Path) -> tuple[tuple[int, int], str]:
    """Return (width, height) and codec from the header. Raises `ValueError` if the image is not supported."""
    try:
        with Image.open(path, formats=tuple(CODECS)) as image:
            size, codec, mode = image.size, CODECS[str(image.format)], image.mode
    except FileNotFoundError:
        raise
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path.name}: not a readable PNG or JPEG: {error}") from error
    if size[0] * size[1] > MAX_PIXELS:
        raise ValueError(f"{path.name}: {size[0]}x{size[1]} is more than {MAX_PIXELS} pixels")
    if mode not in ("RGB", "RGBA", "L", "LA", "P"):
        raise ValueError(f"{path.name}: pixel format {mode} is not supported: use 8-bit RGB")
    return size, codec


def _names(folder: Path) -> list[str]:
    """Return the names of the files in a folder, without hidden ones."""
    try:
        return [path.name for path in folder.iterdir() if not path.name.startswith(".") and path.is_file()]
    except NotADirectoryError as error:
        raise ValueError(f"{folder}: not a folder") from error


def _is_padded_to(number: str, digits: int) -> bool:
    """Return whether a number is written as by the pattern, without additional leading zeros."""
    return number == f"{int(number):0{digits}d}"
