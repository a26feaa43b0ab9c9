"""Clean the download cache: remove abandoned part files and unused lock files.

The files of a URL are removed while its lock is held, so running downloads are left alone. The lock file goes last;
a process that waits for it notices (`filelock` starts over if the file is gone).
"""

import fcntl
import os
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

from opendimo.pipelines.sources.downloads.parts import PARTS, RECORDS, Version
from opendimo.storage_schemas.lake.files import read_json
from opendimo.storage_schemas.lake.maintain import Freed

WHERE = "downloads"


def clean_downloads(cache: Path, older_than: timedelta, dry_run: bool = False) -> Freed:
    """Remove the leftovers in `cache` of attempts that ended or died longer than `older_than` ago.

    `dry_run` only counts. The next attempt at a URL whose part was removed starts over. Safe to kill at any point: the
    next call continues.
    """
    latest = time.time() - older_than.total_seconds()
    files, size, held, unrecorded = 0, 0, 0, 0
    for name, paths in _by_url(cache).items():
        if not _old(paths, latest):
            continue
        lock = cache / PARTS / f"{name}.lock"
        with _lock(lock, dry_run) as ours:
            left = [path for path in paths if path.exists()]
            if not ours or not _old(left, latest):
                held += 1
            elif _unrecorded(cache, name):
                unrecorded += 1
            else:
                files, size = files + len(left), size + sum(path.stat().st_size for path in left)
                for path in () if dry_run else [*left, lock]:  # `_lock` may just have created the lock file
                    path.unlink(missing_ok=True)
    kept = []
    if held:
        kept.append(f"downloads in progress: {held}")
    if unrecorded:
        kept.append(f"complete downloads of killed processes: {unrecorded}; ingest their list again to use them")
    return Freed(WHERE, files, size, kept=tuple(kept))


def _by_url(cache: Path) -> dict[str, list[Path]]:
    """Return the files of each URL other than its record, by URL hash; the lock last."""
    files: dict[str, list[Path]] = defaultdict(list)
    for suffix in (".part", ".json", ".lock"):
        for path in sorted((cache / PARTS).glob(f"[!.]*{suffix}")):
            files[path.stem].append(path)
    return files


def _old(paths: list[Path], latest: float) -> bool:
    """Return whether no file was modified after `latest`; a vanished file counts as modified."""
    try:
        return all(path.stat().st_mtime <= latest for path in paths)
    except FileNotFoundError:
        return False


def _unrecorded(cache: Path, name: str) -> bool:
    """Return whether the file is in the cache without a record of its URL, which only the next attempt can write."""
    version = Version(**(read_json(cache / PARTS / f"{name}.json") or {}))
    has_name = version.sha256 is not None and (cache / version.sha256).is_file()
    return has_name and not (cache / RECORDS / name).is_file()


@contextmanager
def _lock(path: Path, dry_run: bool) -> Iterator[bool]:
    """Try to take a lock as `FileLock` does, but keep the modification time of its file, which tells its age.

    Yields whether the lock was obtained.
    """
    if dry_run and not path.exists():  # a dry run creates no files
        yield True
        return
    with path.open("ab") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield os.fstat(stream.fileno()).st_nlink > 0  # 0: another cleaning removed the file meanwhile
