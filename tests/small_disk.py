"""A small file system in memory that tests can fill."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

BALLAST = ".ballast"


@contextmanager
def small_disk(path: Path, megabytes: int) -> Iterator[None]:
    """Mount a file system in memory at `path`; needs root."""
    path.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(path)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)


def fill_disk(folder: Path) -> None:
    """Fill the file system of a folder to the last byte; it must be a small one (`small_disk`)."""
    with (folder / BALLAST).open("wb", buffering=0) as ballast:
        for size in (1 << 20, 1):
            with suppress(OSError):
                while ballast.write(bytes(size)):
                    pass
