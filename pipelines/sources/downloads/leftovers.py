"""Cleaning the downloads of a lake: parts that nobody goes on with, and the locks of URLs that nobody asks for.

What belongs to a URL goes under its lock, so what somebody fetches stays; and the lock last, which whoever waits for it
notices (`filelock` begins anew where its file is gone).
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
    """Remove what attempts left in `cache` that ended, or died, `older_than` this; `dry_run` only counts.

    The next attempt at a URL whose part went begins anew. Killed anywhere, the next cleaning goes on.
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
                for path in () if dry_run else [*left, lock]:  # which may be new
                    path.unlink(missing_ok=True)
    kept = []
    if held:
        kept.append(f"downloads under way: {held}")
    if unrecorded:
        kept.append(f"whole downloads of killed processes: {unrecorded}; ingest their list again")
    return Freed(WHERE, files, size, kept=tuple(kept))


def _by_url(cache: Path) -> dict[str, list[Path]]:
    """What lies there of each URL but for its record, by the hash of the URL; its lock last."""
    found: dict[str, list[Path]] = defaultdict(list)
    for suffix in (".part", ".json", ".lock"):
        for path in sorted((cache / PARTS).glob(f"[!.]*{suffix}")):
            found[path.stem].append(path)
    return found


def _old(paths: list[Path], latest: float) -> bool:
    """Whether nothing was changed after `latest`; what is gone was changed."""
    try:
        return all(path.stat().st_mtime <= latest for path in paths)
    except FileNotFoundError:
        return False


def _unrecorded(cache: Path, name: str) -> bool:
    """Whether the file has its name, but nothing says that it is the URL's: only the next attempt can."""
    version = Version(**(read_json(cache / PARTS / f"{name}.json") or {}))
    has_name = version.sha256 is not None and (cache / version.sha256).is_file()
    return has_name and not (cache / RECORDS / name).is_file()


@contextmanager
def _lock(path: Path, dry_run: bool) -> Iterator[bool]:
    """Hold a lock as `FileLock` does, unless somebody else does; but leave its time alone, which says its age."""
    if dry_run and not path.exists():  # which makes no files
        yield True
        return
    with path.open("ab") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield os.fstat(stream.fileno()).st_nlink > 0  # or else another cleaning removed it meanwhile
