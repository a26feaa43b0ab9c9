"""Download a URL into a content-addressed cache: once per URL, resuming where the last attempt stopped."""

import logging
import time
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

from opendimo.pipelines.engine.stage import DataError, Failure, TransientError
from opendimo.pipelines.sources.config import SourcesConfig
from opendimo.pipelines.sources.downloads import hosts, platforms
from opendimo.pipelines.sources.downloads.access import access
from opendimo.pipelines.sources.downloads.attempt import Attempt
from opendimo.pipelines.sources.downloads.http import HttpFetch
from opendimo.pipelines.sources.downloads.objects import ObjectFetch
from opendimo.pipelines.sources.downloads.parts import Part, Place, Record
from opendimo.pipelines.sources.downloads.urls import HTTP, check_url, host_of, url_name
from opendimo.storage_schemas.rows import Row

for library in ("httpx", "httpcore"):  # they log full URLs and headers, which may contain secrets
    logging.getLogger(library).setLevel(logging.WARNING)
RESUMES = 3  # how often one attempt resumes after a broken connection
BROKEN = ("network", "wrong_length")


def download(url: str, cache: Path, config: SourcesConfig, journal: list[Row]) -> Path:
    """Download `url` and return `<cache>/<sha256 of its bytes>`; a cached URL is not downloaded again.

    Appends a `fetches` row to `journal`: of this attempt, even if it fails, but not if no request was sent because the
    host is paused; or, if the file was cached, of the attempt that downloaded it.

    Raises `PermanentError` (blocked, gone, private_address, ...), `TransientError` (network, rate_limited, timeout,
    wrong_length, disk, ...) or `DataError` (not_a_video, archive, too_large, empty, ...).
    """
    if problem := check_url(url):
        raise DataError(problem, reason="bad_url")
    place = Place(cache, url)
    with place.lock():
        if (known := place.known()) is not None:
            if known[1] is not None:
                journal.append(known[1].fetch)
            return known[0]
        attempt = Attempt(url)
        try:
            path = place.finished() or _fetch(url, place, config, attempt)
        except TransientError as error:
            if not error.untried:
                journal.append(attempt.row(error=error))
            raise
        except Failure as error:
            journal.append(attempt.row(error=error))
            place.drop_part()
            raise
        attempt.etag = place.version().etag  # also if a killed attempt downloaded the file
        row = attempt.row(sha256=path.name)
        place.write_record(Record(path.name, path.stat().st_size, attempt.etag, row))
        journal.append(row)
        return path


def forget(url: str, cache: Path, *, and_file: bool) -> None:
    """Drop a URL from the cache, so that it is downloaded again; `and_file`: also delete its file."""
    place = Place(cache, url)
    with place.lock():
        place.forget(and_file)


def _fetch(url: str, place: Place, config: SourcesConfig, attempt: Attempt) -> Path:
    """Make one attempt; resume after broken connections if the server supports it."""
    part, deadline = place.open(), time.monotonic() + config.download_timeout_s
    try:
        for resumes in range(RESUMES + 1):
            before = part.size
            try:
                _receive(url, part, config, attempt, deadline)
                break
            except TransientError as error:
                resumable = error.reason in BROKEN and part.version.validator and part.size > before
                if resumes == RESUMES or not resumable:
                    raise
                part.abandon()
        return place.finish(part)
    except OSError as error:
        text = f"{url_name(url)}: cannot store the file: {error.strerror}; check the disk"
        raise TransientError(text, reason="disk") from error
    finally:
        part.abandon()


def _receive(url: str, part: Part, config: SourcesConfig, attempt: Attempt, deadline: float) -> None:
    parts = urlsplit(url)
    if parts.scheme not in HTTP:
        ObjectFetch(part, config, attempt, deadline).run(url)
        return
    credentials = access(config)
    fetch = HttpFetch(part, config, credentials, attempt, deadline)
    if platforms.is_page(url, config):
        with hosts.turn(host_of(url), config, deadline):
            file = platforms.find(url, config, credentials)
        replace(fetch, given=file.headers).run(file.url)
    else:
        fetch.run(url)
