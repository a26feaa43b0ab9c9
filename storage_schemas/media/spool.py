"""Keep encoded clips in a temporary file until they are stored, to limit memory use."""

import os
import tempfile
from dataclasses import dataclass
from typing import BinaryIO


class Spool:
    """An unnamed temporary file (in `TMPDIR`). The system deletes it when its last part is released, even if the
    process is killed."""

    def __init__(self) -> None:
        self._file: BinaryIO = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115  closed with its last part
        self._end = 0

    def keep(self, content: bytes) -> "Spooled":
        """Append `content` to the file and return its part. Raises `OSError` if the disk is full."""
        rest = memoryview(content)
        try:
            while rest:
                rest = rest[self._file.write(rest) :]
        except OSError as error:
            where = f"{tempfile.gettempdir()}, the temporary storage of clips: free disk space, or set TMPDIR"
            raise OSError(error.errno, f"{error.strerror} in {where}") from error
        self._end += len(content)
        return Spooled(self._file, self._end - len(content), len(content))


@dataclass(frozen=True, eq=False)
class Spooled:
    """A part of a spool; `bytes(...)` reads it."""

    file: BinaryIO
    offset: int
    size: int

    def __len__(self) -> int:
        return self.size

    def __bytes__(self) -> bytes:
        return os.pread(self.file.fileno(), self.size, self.offset)
