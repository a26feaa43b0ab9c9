"""Bytes that wait on disk until they are stored, so that memory does not grow with them."""

import os
import tempfile
from dataclasses import dataclass
from typing import BinaryIO


class Spool:
    """A temporary file without a name (in `TMPDIR`): it is gone when nobody holds a part of it any more, also where the
    process is killed."""

    def __init__(self) -> None:
        self._file: BinaryIO = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115  closed with its last part
        self._end = 0

    def keep(self, content: bytes) -> "Spooled":
        """Write `content` down. Raises `OSError` where the disk is full."""
        left = memoryview(content)
        try:
            while left:
                left = left[self._file.write(left) :]
        except OSError as error:
            where = f"{tempfile.gettempdir()}, where clips wait until they are stored: free it, or set TMPDIR"
            raise OSError(error.errno, f"{error.strerror} in {where}") from error
        self._end += len(content)
        return Spooled(self._file, self._end - len(content), len(content))


@dataclass(frozen=True, eq=False)
class Spooled:
    """A part of a spool: `bytes(...)` reads it."""

    file: BinaryIO
    offset: int
    size: int

    def __len__(self) -> int:
        return self.size

    def __bytes__(self) -> bytes:
        return os.pread(self.file.fileno(), self.size, self.offset)
