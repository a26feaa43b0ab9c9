"""Download a file from an http(s) server into a part file: redirects, limits, and resuming."""

import base64
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import unquote

import httpcore
import httpx

from opendimo.pipelines.engine.stage import DataError, PermanentError, TransientError
from opendimo.pipelines.sources.config import SourcesConfig
from opendimo.pipelines.sources.downloads import answers, hosts
from opendimo.pipelines.sources.downloads.access import Access
from opendimo.pipelines.sources.downloads.attempt import Attempt
from opendimo.pipelines.sources.downloads.connect import request
from opendimo.pipelines.sources.downloads.parts import Part, Version
from opendimo.pipelines.sources.downloads.urls import HTTP, host_of

HEADERS = {
    "User-Agent": "opendimo",
    "Accept": "video/*, application/octet-stream, */*;q=0.5",
    "Accept-Encoding": "identity",
}
REDIRECTS = (301, 302, 303, 307, 308)
CONTENT_RANGE = re.compile(r"bytes (?:(\d+)-(\d+)|\*)/(\d+|\*)")


@dataclass
class HttpFetch:
    """Download of one file. `given`: further headers for the first host, as returned for a platform page."""

    part: Part
    config: SourcesConfig
    access: Access
    attempt: Attempt
    deadline: float
    given: dict[str, str] = field(default_factory=dict)

    def run(self, url: str) -> None:
        """Stream the body at `url`, or the missing rest of it, into the part.

        Raises `PermanentError`, `TransientError` or `DataError`, each with a reason.
        """
        follow(url, self.config, self.access, self.deadline, self._ask, self.given)

    def _ask(self, url: httpx.URL, headers: dict[str, str]) -> str:
        """Send one request. Return `whole` (part complete), `again` (start over) or the target of a redirect."""
        host, offset = host_of(str(url)), self.part.size
        headers = {"Host": url.netloc.decode("ascii"), **headers, **_range(self.part)}
        with (
            hosts.turn(host, self.config, self.deadline),
            request(url, headers, self.config, self.access.proxy, self.deadline) as response,
        ):
            answer = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in response.headers}
            status = self.attempt.http_status = response.status
            if status in REDIRECTS and (location := answer.get("location")):
                return location
            if offset and status == 416 and _is_complete(self.part, answer):
                self.attempt.resumed_from = offset
                return "whole"
            if offset and (status == 416 or (status == 206 and not _continues(self.part, answer))):
                self.part.begin(Version())  # the server has another version of the file
                return "again"
            if status != (206 if offset and status != 200 else 200):
                answers.refuse(status, answer, host, url.host)
            answers.check_headers(answer, url.host)
            self._begin(answer, offset if status == 206 else 0, url.host)
            self._save(response, url.host)
            return "whole"

    def _begin(self, headers: dict[str, str], offset: int, host: str) -> None:
        """Resume the part at `offset`, or start it with the server's current version of the file."""
        self.attempt.resumed_from = offset
        if offset:
            self.part.resume()
        else:
            length = headers.get("content-length", "")
            size = int(length) if length.isdecimal() else None
            answers.check_size(size or 0, host, self.config)
            self.part.begin(Version(size, headers.get("etag"), headers.get("last-modified")))
        self.attempt.etag = self.part.version.etag

    def _save(self, response: httpcore.Response, host: str) -> None:
        """Write the body into the part. Abort if the throughput over `timeout` seconds is below `min_rate`."""
        window, since, part = 0, time.monotonic(), self.part
        try:
            for chunk in response.iter_stream():
                if not part.size:
                    answers.check_start(chunk, host)
                part.append(chunk)
                self.attempt.received += len(chunk)
                answers.check_size(part.size, host, self.config)
                window += len(chunk)
                if (elapsed := time.monotonic() - since) > self.config.timeout_s:
                    if window < self.config.min_rate * elapsed:
                        text = f"{host}: slower than {self.config.min_rate:g} bytes per second; a retry resumes here"
                        raise TransientError(text, reason="slow")
                    window, since = 0, time.monotonic()
        except httpcore.RemoteProtocolError:
            raise _wrong_length(part, host) from None
        if not part.size:
            raise DataError(f"{host}: the server sent an empty file", reason="empty")
        if part.version.length not in (None, part.size):
            raise _wrong_length(part, host)


def follow(
    url: str,
    config: SourcesConfig,
    access: Access,
    deadline: float,
    ask: Callable[[httpx.URL, dict[str, str]], str],
    given: dict[str, str] | None = None,
) -> None:
    """Request `url` and follow redirects: call `ask` until it returns `whole`.

    `ask` returns `whole` (finished), `again` (same URL once more) or the target of a redirect.
    Raises the errors of `ask`, `PermanentError` (redirects, scheme, bad_url) and network errors with a reason.
    """
    target = first = _parsed(url)
    hops = 0
    with _named_errors(target.host, config, deadline):
        while True:
            headers = HEADERS
            if target.scheme == "https" or first.scheme == "http":  # no secrets after a downgrade from https to http
                headers = headers | ((given or {}) if target.host == first.host else {})
                headers |= _basic(target) | access.headers_for(str(target), target.host)
            result = ask(target, headers)
            if result == "whole":
                return
            if result != "again":
                target, hops = _redirected(target, result), hops + 1
            if hops > config.max_redirects:
                text = f"{first.host}: more than {config.max_redirects} redirects: give the final URL"
                raise PermanentError(text, reason="redirects")


def _wrong_length(part: Part, host: str) -> TransientError:
    text = f"{host}: received {part.size} of {part.version.length or 'unknown'} bytes; a retry resumes here"
    return TransientError(text, reason="wrong_length")


def _range(part: Part) -> dict[str, str]:
    """Return headers that request the rest of the file if its version on the server is unchanged."""
    return {"Range": f"bytes={part.size}-", "If-Range": part.version.validator or ""} if part.size else {}


def _continues(part: Part, headers: dict[str, str]) -> bool:
    """Return whether a 206 response contains the complete rest of the part."""
    match = CONTENT_RANGE.fullmatch(headers.get("content-range", ""))
    if not match or match[1] is None or int(match[1]) != part.size:
        return False
    total = part.version.length if match[3] == "*" else int(match[3])
    ends = total is None or int(match[2]) == total - 1
    return ends and part.version.length in (None, total) and _same(part, headers)


def _is_complete(part: Part, headers: dict[str, str]) -> bool:
    """Return whether a 416 response shows that the part, whose length was unknown, is complete."""
    match = CONTENT_RANGE.fullmatch(headers.get("content-range", ""))
    return part.version.length is None and match is not None and match[3] == str(part.size) and _same(part, headers)


def _same(part: Part, headers: dict[str, str]) -> bool:
    return headers.get("etag", part.version.etag) == part.version.etag


def _basic(url: httpx.URL) -> dict[str, str]:
    """Return user and password of a URL as a basic-authentication header."""
    if not url.userinfo:
        return {}
    name, _, password = url.userinfo.decode("ascii").partition(":")
    token = base64.b64encode(f"{unquote(name)}:{unquote(password)}".encode()).decode("ascii")
    return {"Authorization": f"Basic {token}"}


def _parsed(url: str) -> httpx.URL:
    try:
        return httpx.URL(url)
    except (httpx.InvalidURL, UnicodeError):  # drop the cause: its message quotes the URL
        raise DataError("not a URL that can be fetched: correct it", reason="bad_url") from None


def _redirected(url: httpx.URL, location: str) -> httpx.URL:
    try:
        target = url.join(location)
    except (httpx.InvalidURL, UnicodeError):
        raise PermanentError(f"{url.host}: redirects to an invalid URL; correct the URL", reason="bad_url") from None
    if target.scheme not in HTTP or not target.host:
        text = f"{url.host}: redirects to {target.scheme}://, but only http and https are supported"
        raise PermanentError(text, reason="scheme")
    return target


@contextmanager
def _named_errors(host: str, config: SourcesConfig, deadline: float) -> Iterator[None]:
    """Convert network errors into failures with a reason, without their messages: these may quote headers and URLs."""
    try:
        yield
    except httpcore.TimeoutException:
        over = f"not finished after {config.download_timeout_s:g} s: a retry resumes here, or raise download_timeout_s"
        text = over if time.monotonic() >= deadline else f"no data for {config.timeout_s:g} s; will be retried"
        raise TransientError(f"{host}: {text}", reason="timeout") from None
    except httpcore.ProxyError:
        text = f"{host}: the proxy refused the connection; will be retried: check `proxy` in the access file"
        raise TransientError(text, reason="proxy") from None
    except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.UnsupportedProtocol) as error:
        text = f"{host}: connection failed or broke ({type(error).__name__}); will be retried"
        raise TransientError(text, reason="network") from None
