"""A file from an http(s) server into a part: redirects, limits, and the rest of a file that was begun."""

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
    """Fetches one file; `given` are further headers of the first host, as a platform's page names them."""

    part: Part
    config: SourcesConfig
    access: Access
    attempt: Attempt
    deadline: float
    given: dict[str, str] = field(default_factory=dict)

    def run(self, url: str) -> None:
        """Stream the body behind `url` into the part, or the rest of it.

        Raises `PermanentError`, `TransientError` or `DataError`, each with its reason.
        """
        follow(url, self.config, self.access, self.deadline, self._ask, self.given)

    def _ask(self, url: httpx.URL, headers: dict[str, str]) -> str:
        """One request: `whole` where the part is now, `again` where it starts over, or where a redirect leads to."""
        host, offset = host_of(str(url)), self.part.size
        headers = {"Host": url.netloc.decode("ascii"), **headers, **_range(self.part)}
        with (
            hosts.turn(host, self.config, self.deadline),
            request(url, headers, self.config, self.access.proxy, self.deadline) as response,
        ):
            found = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in response.headers}
            status = self.attempt.http_status = response.status
            if status in REDIRECTS and (place := found.get("location")):
                return place
            if offset and status == 416 and _is_all(self.part, found):
                self.attempt.resumed_from = offset
                return "whole"
            if offset and (status == 416 or (status == 206 and not _continues(self.part, found))):
                self.part.begin(Version())  # not the file that was begun
                return "again"
            if status != (206 if offset and status != 200 else 200):
                answers.refuse(status, found, host, url.host)
            answers.check_headers(found, url.host)
            self._begin(found, offset if status == 206 else 0, url.host)
            self._save(response, url.host)
            return "whole"

    def _begin(self, headers: dict[str, str], offset: int, host: str) -> None:
        """Go on at `offset`, or start with the version that the server has now."""
        self.attempt.resumed_from = offset
        if offset:
            self.part.resume()
        else:
            length = headers.get("content-length", "")
            known = int(length) if length.isdecimal() else None
            answers.check_size(known or 0, host, self.config)
            self.part.begin(Version(known, headers.get("etag"), headers.get("last-modified")))
        self.attempt.etag = self.part.version.etag

    def _save(self, response: httpcore.Response, host: str) -> None:
        """The body into the part. A server that only drips is given up."""
        window, since, part = 0, time.monotonic(), self.part
        try:
            for chunk in response.iter_stream():
                if not part.size:
                    answers.check_start(chunk, host)
                part.append(chunk)
                self.attempt.received += len(chunk)
                answers.check_size(part.size, host, self.config)
                window += len(chunk)
                if (elapsed := time.monotonic() - since) > self.config.timeout:
                    if window < self.config.min_rate * elapsed:
                        text = f"{host}: less than {self.config.min_rate:g} bytes a second: goes on there later"
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
    """Ask for `url`, and where that leads to, until `ask` says `whole`; it may say `again`, or where a redirect leads.

    Raises what `ask` does, and the errors of the network by name.
    """
    target = first = _parsed(url)
    hops = 0
    with _named_errors(target.host, config, deadline):
        while True:
            headers = HEADERS
            if target.scheme == "https" or first.scheme == "http":  # secrets do not fall back to plain text
                headers = headers | ((given or {}) if target.host == first.host else {})
                headers |= _basic(target) | access.headers_for(str(target), target.host)
            found = ask(target, headers)
            if found == "whole":
                return
            if found != "again":
                target, hops = _redirected(target, found), hops + 1
            if hops > config.max_redirects:
                text = f"{first.host}: more than {config.max_redirects} redirects: give the final URL"
                raise PermanentError(text, reason="redirects")


def _wrong_length(part: Part, host: str) -> TransientError:
    text = f"{host}: {part.size} of {part.version.length or 'unknown'} bytes came: goes on there later"
    return TransientError(text, reason="wrong_length")


def _range(part: Part) -> dict[str, str]:
    """Ask for the rest, if the file is still the one that was begun."""
    return {"Range": f"bytes={part.size}-", "If-Range": part.version.validator or ""} if part.size else {}


def _continues(part: Part, headers: dict[str, str]) -> bool:
    """Whether a partial answer is all the rest of what is there."""
    match = CONTENT_RANGE.fullmatch(headers.get("content-range", ""))
    if not match or match[1] is None or int(match[1]) != part.size:
        return False
    total = part.version.length if match[3] == "*" else int(match[3])
    ends = total is None or int(match[2]) == total - 1
    return ends and part.version.length in (None, total) and _same(part, headers)


def _is_all(part: Part, headers: dict[str, str]) -> bool:
    """Whether a server that has no more bytes has as many as there are here; it had not said how many."""
    match = CONTENT_RANGE.fullmatch(headers.get("content-range", ""))
    return part.version.length is None and match is not None and match[3] == str(part.size) and _same(part, headers)


def _same(part: Part, headers: dict[str, str]) -> bool:
    return headers.get("etag", part.version.etag) == part.version.etag


def _basic(url: httpx.URL) -> dict[str, str]:
    """User and password of a URL, as a server wants them."""
    if not url.userinfo:
        return {}
    name, _, password = url.userinfo.decode("ascii").partition(":")
    word = base64.b64encode(f"{unquote(name)}:{unquote(password)}".encode()).decode("ascii")
    return {"Authorization": f"Basic {word}"}


def _parsed(url: str) -> httpx.URL:
    try:
        return httpx.URL(url)
    except (httpx.InvalidURL, UnicodeError):  # their texts quote the URL
        raise DataError("not a URL that can be fetched: correct it", reason="bad_url") from None


def _redirected(url: httpx.URL, place: str) -> httpx.URL:
    try:
        target = url.join(place)
    except (httpx.InvalidURL, UnicodeError):
        raise PermanentError(f"{url.host}: redirects to what is no URL", reason="bad_url") from None
    if target.scheme not in HTTP or not target.host:
        text = f"{url.host}: redirects to {target.scheme}://, only http and https are fetched"
        raise PermanentError(text, reason="scheme")
    return target


@contextmanager
def _named_errors(host: str, config: SourcesConfig, deadline: float) -> Iterator[None]:
    """Errors of the network by name; their own texts may quote headers and URLs."""
    try:
        yield
    except httpcore.TimeoutException:
        over = f"not finished after {config.download_time:g} s: goes on there later, or raise download_time"
        text = over if time.monotonic() >= deadline else f"silent for {config.timeout:g} s; tried again later"
        raise TransientError(f"{host}: {text}", reason="timeout") from None
    except httpcore.ProxyError:
        raise TransientError(f"{host}: the proxy does not let us through", reason="proxy") from None
    except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.UnsupportedProtocol) as error:
        text = f"{host}: no connection, or it broke ({type(error).__name__}); tried again later"
        raise TransientError(text, reason="network") from None
