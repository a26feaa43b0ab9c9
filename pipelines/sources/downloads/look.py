"""Whether the file behind a URL is still there, and still the same, without fetching it."""

import time
from dataclasses import dataclass

import httpx

from opendimo.pipelines.engine.stage import DataError, Failure, TransientError
from opendimo.pipelines.sources.config import SourcesConfig
from opendimo.pipelines.sources.downloads import answers, hosts
from opendimo.pipelines.sources.downloads.access import Access, access
from opendimo.pipelines.sources.downloads.attempt import Attempt, Row
from opendimo.pipelines.sources.downloads.connect import request
from opendimo.pipelines.sources.downloads.http import CONTENT_RANGE, REDIRECTS, follow
from opendimo.pipelines.sources.downloads.urls import host_of

NO_HEAD = (400, 401, 403, 404, 405, 410, 501)
"""Answers to HEAD that say little about GET: not known, or not what a signature is for. Some servers find nothing."""
FIRST_BYTE = {"Range": "bytes=0-0"}


@dataclass(frozen=True)
class Known:
    """The file that was fetched: its hash, its bytes, and the server's name for it; None where that is not known."""

    sha256: str | None = None
    size: int | None = None
    etag: str | None = None


def look(url: str, known: Known, config: SourcesConfig) -> Row | None:
    """The row of `fetches` of asking an http(s) server about `url`, of which no byte but the first is fetched.

    `fetched`, with the hash of the file that is known, where it is there and the server says nothing else about it;
    refused as `changed` where it has another tag or length. None where it was not the host's turn. Raises `DataError`
    where the config's cookies or proxy cannot be used, which says nothing about the file.
    """
    attempt, deadline = Attempt(url), time.monotonic() + config.timeout + config.patience
    asking = _Look(known, access(config), config, attempt, deadline)
    try:
        follow(url, config, asking.access, deadline, asking.ask)
    except Failure as error:
        return None if isinstance(error, TransientError) and error.untried else attempt.row(error=error)
    return attempt.row(sha256=known.sha256)


@dataclass
class _Look:
    """Asks by HEAD, and where that is not answered by GET."""

    known: Known
    access: Access
    config: SourcesConfig
    attempt: Attempt
    deadline: float
    method: str = "HEAD"

    def ask(self, url: httpx.URL, headers: dict[str, str]) -> str:
        """One request: `whole` where the answer is the last one, `again`, or where a redirect leads to."""
        host, first = host_of(str(url)), FIRST_BYTE if self.method == "GET" else {}
        headers = {"Host": url.netloc.decode("ascii"), **headers, **first}
        with (
            hosts.turn(host, self.config, self.deadline),
            request(url, headers, self.config, self.access.proxy, self.deadline, self.method) as response,
        ):
            found = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in response.headers}
            status = self.attempt.http_status = response.status
            if status in REDIRECTS and (place := found.get("location")):
                return place
            if self.method == "HEAD" and status in NO_HEAD:
                self.method = "GET"
                return "again"
            if status not in (200, 206):
                answers.refuse(status, found, host, url.host)
            answers.check_headers(found, url.host)
            self._compare(found, url.host, whole=status == 200)
            return "whole"

    def _compare(self, headers: dict[str, str], host: str, whole: bool) -> None:
        """Raise `DataError` where the server speaks of another file than the one that is known."""
        span = CONTENT_RANGE.fullmatch(headers.get("content-range", ""))
        length = headers.get("content-length", "") if whole else span[3] if span else ""
        self.attempt.etag = etag = headers.get("etag")
        retagged = etag and self.known.etag and _strong(etag) != _strong(self.known.etag)
        resized = length.isdecimal() and self.known.size is not None and int(length) != self.known.size
        if resized or retagged:
            raise DataError(f"{host}: another file by now; the one that was fetched is kept", reason="changed")


def _strong(etag: str) -> str:
    return etag.removeprefix("W/")
