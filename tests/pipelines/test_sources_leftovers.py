"""Cleaning of downloads: abandoned parts are removed; running and completed downloads stay."""

import os
import time
from datetime import timedelta
from pathlib import Path

import pytest
from filelock import FileLock

from opendimo.pipelines.engine.stage import TransientError
from opendimo.pipelines.sources import SourcesConfig
from opendimo.pipelines.sources.downloads import parts
from opendimo.pipelines.sources.downloads.engine import download
from opendimo.pipelines.sources.downloads.leftovers import clean_downloads
from tests.pipelines.media_server import VIDEO, MediaServer
from tests.pipelines.test_sources_processes import interrupt, rows_of, start

CONFIG = SourcesConfig(allow_private=True, host_rate=0, timeout_s=5)
NOW = timedelta(0)


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def give_up(url: str, cache: Path) -> None:
    """Leave a part of 1000 bytes of `url`, as an abandoned attempt does."""
    with pytest.raises(TransientError):
        download(url, cache, CONFIG, [])


def names(cache: Path) -> dict[str, int]:
    """Return the size in bytes of every file that is not a record, by kind."""
    return {path.suffix: path.stat().st_size for path in (cache / "parts").iterdir()}


def test_a_part_goes_when_it_is_old_enough(server: MediaServer, cache: Path) -> None:
    give_up(f"{server.url}/untagged/1000", cache)
    left = names(cache)
    assert left.keys() == {".part", ".json", ".lock"} and left[".part"] == 1000
    assert clean_downloads(cache, timedelta(hours=1)).files == 0 and names(cache) == left
    for path in (cache / "parts").iterdir():
        os.utime(path, (time.time() - 7200,) * 2)
    counted = clean_downloads(cache, timedelta(hours=1), dry_run=True)
    assert (counted.where, counted.files, counted.bytes) == ("downloads", 3, sum(left.values()))
    assert names(cache) == left
    assert clean_downloads(cache, timedelta(hours=1)) == counted
    assert names(cache) == {}


def test_a_dry_run_makes_no_files(server: MediaServer, cache: Path) -> None:
    give_up(f"{server.url}/untagged/1000", cache)
    next((cache / "parts").glob("*.lock")).unlink()
    assert clean_downloads(cache, NOW, dry_run=True).files == 2
    assert names(cache).keys() == {".part", ".json"}
    assert clean_downloads(cache, NOW).files == 2 and names(cache) == {}


def test_of_what_was_fetched_only_the_lock_goes(server: MediaServer, cache: Path) -> None:
    path = download(f"{server.url}/video/x", cache, CONFIG, [])
    assert clean_downloads(cache, NOW).files == 1 and names(cache) == {}
    assert download(f"{server.url}/video/x", cache, CONFIG, []) == path and path.read_bytes() == VIDEO
    assert len(server.requests) == 1


def test_what_somebody_fetches_stays(server: MediaServer, cache: Path) -> None:
    give_up(f"{server.url}/untagged/1000", cache)
    (lock,) = (cache / "parts").glob("*.lock")
    with FileLock(lock):
        freed = clean_downloads(cache, NOW)
    assert (freed.files, freed.kept) == (0, ("downloads in progress: 1",)) and len(names(cache)) == 3


def test_a_file_without_a_record_stays_whole(server: MediaServer, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(parts, "sync_folder", interrupt)  # right after the part was renamed
        with pytest.raises(KeyboardInterrupt):
            download(f"{server.url}/video/x", cache, CONFIG, [])
    (why,) = clean_downloads(cache, NOW).kept
    assert "ingest their list again" in why
    assert download(f"{server.url}/video/x", cache, CONFIG, []).read_bytes() == VIDEO
    assert len(server.requests) == 1


def test_cleaning_all_the_time_lets_nothing_be_fetched_twice(server: MediaServer, cache: Path) -> None:
    urls = [f"{server.url}/busy/{number}" for number in range(8)]
    processes = [start(cache, *urls), start(cache, *reversed(urls))]
    removed = 0
    while any(process.poll() is None for process in processes):
        removed += clean_downloads(cache, NOW).files
    assert all(len(rows_of(process)) == 8 for process in processes)
    assert len(server.requests) == 8 and removed >= 8


def test_where_nothing_was_downloaded_there_is_nothing_to_clean(cache: Path) -> None:
    assert clean_downloads(cache, NOW).files == 0 and not cache.exists()
