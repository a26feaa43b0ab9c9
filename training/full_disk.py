"""Go on training while the disk is full: tell such errors from others, and hold lines of a log back until they fit."""

import errno
import logging
import os
import re
from pathlib import Path
from threading import Lock

logger = logging.getLogger(__name__)

NO_SPACE = {errno.ENOSPC, errno.EDQUOT}
RUST_ERROR = re.compile(r"\(os error (\d+)\)")
"""How safetensors, which raises no `OSError`, names the error of the operating system."""


def is_full(error: BaseException) -> bool:
    """Return whether an error of writing says that the disk, or the user's share of it, is full."""
    failures = getattr(error, "failures", None)  # of each process, in a `CheckpointException` of torch
    if isinstance(failures, dict):
        return all(is_full(failure[0]) for failure in failures.values())
    if isinstance(error, OSError) and error.errno in NO_SPACE:
        return True
    return any(int(number) in NO_SPACE for number in RUST_ERROR.findall(str(error)))


class HeldLines:
    """Append lines to a file, which is first truncated to `keep_bytes`; what a full disk refuses is held in memory.

    Thread-safe. `length`: bytes of the file with all lines, also those that are held.
    """

    def __init__(self, path: Path, keep_bytes: int) -> None:
        self._path, self._lock, self._held = path, Lock(), b""
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        os.ftruncate(self._file, keep_bytes)
        self.length = keep_bytes

    def append(self, line: str) -> None:
        """Write a line, or hold it back if the disk is full. Raises `OSError` for any other failure."""
        data = f"{line}\n".encode()
        with self._lock:
            waiting = bool(self._held)
            self._held += data
            self.length += len(data)
        try:
            self.write()
        except OSError as error:
            if not is_full(error):
                raise
            if not waiting:
                logger.warning("the disk of %s is full: its lines are held in memory until there is space", self._path)

    def write(self) -> None:
        """Write all lines that are held. Raises `OSError` if one cannot be written."""
        with self._lock:
            while self._held:
                self._held = self._held[os.write(self._file, self._held) :]

    def close(self) -> None:
        """Close the file. Lines that cannot be written are lost, and a line in the log says so."""
        try:
            self.write()
        except OSError as error:
            logger.error("%s lacks its last %d bytes: %s", self._path, len(self._held), error)
        os.close(self._file)
