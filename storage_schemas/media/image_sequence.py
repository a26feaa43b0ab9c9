"""Numbered pictures as one readable source, named by a pattern as FFmpeg writes it: `folder/name_%04d.png`.

Pictures are read in the order of their numbers, which go up by one constant step (5 where only every fifth frame of a
render was kept). A pattern says nothing about time: the frame rate is known to whoever names it.
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
    """The pictures of a pattern: `numbers`, in order, and where each of them lies."""

    pattern: Path
    numbers: range
    paths: tuple[Path, ...]

    def sha256(self) -> str:
        """Hash of the pictures' bytes in their order, whatever they are called."""
        digest = hashlib.sha256()
        for path in self.paths:
            digest.update(bytes.fromhex(sha256_file(path)))
        return digest.hexdigest()

    def size(self) -> int:
        """Bytes of all pictures."""
        return sum(path.stat().st_size for path in self.paths)

    def facts(self) -> tuple[str, int, int]:
        """(codec, width, height), by the headers of all pictures. Raises `ValueError` where they differ."""
        first, codec = _size(self.paths[0])
        for path in self.paths:
            if (found := _size(path)) != (first, codec):
                raise ValueError(f"{path.name} is {found}, {self.paths[0].name} is {(first, codec)}: all must be alike")
        return codec, *first


def is_pattern(source: object) -> bool:
    """Whether `source` names a sequence of pictures, and not a file."""
    return isinstance(source, str | Path) and PATTERN.fullmatch(Path(source).name) is not None


def pattern_of(folder: Path) -> Path | None:
    """The pattern of the pictures in a folder; None where it holds none.

    Raises `ValueError` where it holds several sequences.
    """
    digits: dict[tuple[str, str], set[str]] = {}
    for name in _names(folder):
        if match := NUMBERED.fullmatch(name):
            digits.setdefault((match["prefix"], match["suffix"]), set()).add(match["number"])
    if not digits:
        return None
    if len(digits) > 1:
        found = ", ".join(f"{prefix}*{suffix}" for prefix, suffix in sorted(digits))
        raise ValueError(f"{folder}: pictures of several sequences ({found}): keep one in a folder")
    [((prefix, suffix), numbers)] = digits.items()
    if "%" in prefix:
        raise ValueError(f"{folder}: a picture's name holds a percent sign: rename the pictures")
    shortest = min(map(len, numbers))
    padded = len({len(number) for number in numbers}) == 1 or any(number.startswith("0") for number in numbers)
    return folder / f"{prefix}%{f'0{shortest}' if padded and shortest < 10 else ''}d{suffix}"


def open_sequence(pattern: str | Path) -> ImageSequence:
    """List the pictures of a pattern, in the order of their numbers.

    Raises `FileNotFoundError` where there is none and `ValueError` where one is missing in between.
    """
    pattern = Path(pattern)
    match = PATTERN.fullmatch(pattern.name)
    if match is None:
        raise ValueError(f"{pattern}: not a pattern of pictures like name_%04d.png")
    least = int(match["digits"] or 1)
    shape = re.compile(rf"{re.escape(match['prefix'])}(\d{{{least},18}}){re.escape(match['suffix'])}")
    found = {
        int(hit[1]): name for name in _names(pattern.parent) if (hit := shape.fullmatch(name)) and _plain(hit[1], least)
    }
    if not found:
        raise FileNotFoundError(f"{pattern}: no picture of this name")
    ordered = sorted(found)
    step = min((after - before for before, after in pairwise(ordered)), default=1)
    numbers = range(ordered[0], ordered[-1] + 1, step)
    if len(numbers) != len(ordered) or any(number not in numbers for number in ordered):
        gap = next(before for before, after in pairwise(ordered) if after - before != step)
        raise ValueError(f"{pattern}: picture {gap + step} is missing: numbers have to go up by a constant step")
    return ImageSequence(pattern, numbers, tuple(pattern.parent / found[number] for number in ordered))


def frames(pattern: str | Path) -> Iterator[Frame]:
    """All pictures as RGB [H, W, 3], one at a time. Raises `ValueError` where one cannot be read."""
    for path in open_sequence(pattern).paths:
        yield _read(path)


def _read(path: Path) -> Frame:
    _size(path)
    try:
        with Image.open(path, formats=tuple(CODECS)) as image:
            return np.array(image.convert("RGB"), np.uint8)
    except (OSError, SyntaxError) as error:
        raise ValueError(f"{path.name}: not a readable picture: {error}") from error


def _size(path: Path) -> tuple[tuple[int, int], str]:
    """(width, height) and codec by the header."""
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
        raise ValueError(f"{path.name}: pixels of kind {mode}: write 8 bits for each of red, green and blue")
    return size, codec


def _names(folder: Path) -> list[str]:
    """Names of the files in a folder; hidden ones are left alone."""
    try:
        return [path.name for path in folder.iterdir() if not path.name.startswith(".") and path.is_file()]
    except NotADirectoryError as error:
        raise ValueError(f"{folder}: not a folder") from error


def _plain(number: str, digits: int) -> bool:
    """Whether a number is written as the pattern would: no more zeros than it takes."""
    return number == f"{int(number):0{digits}d}"
