"""Probe whether the file at a URL is still available and unchanged, without downloading it."""

import time
from dataclasses import dataclass

import httpx

from opendimo.pipelines.engine.stage import DataError, Failure, TransientError
from opendimo.pipelines.sources.config import SourcesConfig
from opendimo.pipelines.sources.downloads import answers, hosts
from opendimo.pipelines.sources.downloads.access import Access, access
from opendimo.pipelines.sources.downloads.attempt import Attempt
from opendimo.pipelines.sources.downloads.connect import request
from opendimo.pipelines.sources.downloads.http import CONTENT_RANGE, REDIRECTS, follow
from opendimo.pipelines.sources.downloads.urls import host_of
from opendimo.storage_schemas.rows import Row

NO_HEAD = (400, 401, 403, 404, 405, 410, 501)
"""HEAD responses that do not predict GET: unsupported method, a URL signature valid only for GET, or a false 404."""
FIRST_BYTE = {"Range": "bytes=0-0"}


@dataclass(frozen=True)
class Known:
    """The file fetched before: SHA-256, size in bytes and entity tag; None if unknown."""

    sha256: str | None = None
    size: int | None = None
    etag: str | None = None


def probe_url(url: str, known: Known, config: SourcesConfig) -> Row | None:
    """Probe `url` on its http(s) server, reading at most one byte, and return the attempt as a row of `fetches`.

    The status is `fetched`, with the known hash, if the file is available and its entity tag and length do not differ
    from the known ones; `refused` with reason `changed` if one of them differs. Returns None if the host is paused.
    Raises `DataError` if the config's cookies or proxy cannot be used, which says nothing about the file.
    """
    attempt, deadline = Attempt(url), time.monotonic() + config.timeout_s + config.max_pause_s
    probe = _Probe(known, access(config), config, attempt, deadline)
    try:
        follow(url, config, probe.access, deadline, probe.ask)
    except Failure as error:
        return None if isinstance(error, TransientError) and error.untried else attempt.row(error=error)
    return attempt.row(sha256=known.sha256)


@dataclass
class _Probe:
    """Probe of one URL by HEAD, or by GET if HEAD is not answered."""

    known: Known
    access: Access
    config: SourcesConfig
    attempt: Attempt
    deadline: float
    method: str = "HEAD"

    def ask(self, url: httpx.URL, headers: dict[str, str]) -> str:
        """Send one request. Return `whole` (finished), `again` (retry by GET) or the target of a redirect."""
        host, byte_range = host_of(str(url)), FIRST_BYTE if self.method == "GET" else {}
        headers = {"Host": url.netloc.decode("ascii"), **headers, **byte_range}
        with (
            hosts.turn(host, self.config, self.deadline),
            request(url, headers, self.config, self.access.proxy, self.deadline, self.method) as response,
        ):
            answer = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in response.headers}
            status = self.attempt.http_status = response.status
            if status in REDIRECTS and (location := answer.get("location")):
                return location
            if self.method == "HEAD" and status in NO_HEAD:
                self.method = "GET"
                return "again"
            if status not in (200, 206):
                answers.refuse(status, answer, host, url.host)
            answers.check_headers(answer, url.host)
            self._compare(answer, url.host, whole=status == 200)
            return "whole"

    def _compare(self, headers: dict[str, str], host: str, whole: bool) -> None:
        """Raise `DataError` if the entity tag or length shows that the file is not the known one."""
        span = CONTENT_RANGE.fullmatch(headers.get("content-range", ""))
        length = headers.get("content-length", "") if whole else span[3] if span else ""
        self.attempt.etag = etag = headers.get("etag")
        retagged = etag and self.known.etag and _strong(etag) != _strong(self.known.etag)
        resized = length.isdecimal() and self.known.size is not None and int(length) != self.known.size
        if resized or retagged:
            raise DataError(f"{host}: the file at the URL has changed; the fetched copy is kept", reason="changed")


def _strong(etag: str) -> str:
    return etag.removeprefix("W/")
