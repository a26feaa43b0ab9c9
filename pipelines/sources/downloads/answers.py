"""Interpret server responses: accept a file, or raise an error with a reason."""

import email.utils
import time
from typing import NoReturn

from opendimo.pipelines.engine.stage import DataError, PermanentError, TransientError
from opendimo.pipelines.sources.config import SourcesConfig
from opendimo.pipelines.sources.downloads import hosts
from opendimo.pipelines.sources.downloads.urls import printable
from opendimo.pipelines.sources.signatures import foreign

Headers = dict[str, str]  # names in lower case
BLOCKED = (401, 403, 451)
GONE = (404, 410)
RETRY = (408, 425, 429)  # retried, like every 5xx
PAGES = ("application/json", "application/xml", "application/pdf", "application/xhtml+xml")
PLAIN = ("", "identity", "binary", "none", "utf-8", "aws-chunked")  # content encodings that change nothing
DEFAULT_PAUSE = 60.0  # seconds after 429 without `Retry-After`


def refuse(status: int, headers: Headers, host: str, label: str) -> NoReturn:
    """Raise the error for a response without a file. `host`: key of the rate limit; `label`: name shown in messages.

    Raises `TransientError` (rate_limited, server_error) or `PermanentError` (blocked, gone, refused).
    """
    text = f"{label}: the server answered {status}"
    if status in RETRY or status >= 500:
        wait = retry_after(headers.get("retry-after"))
        if wait is None and status == 429:
            wait = DEFAULT_PAUSE
        until = None if wait is None else hosts.pause(host, wait)
        reason = "rate_limited" if status == 429 else "server_error"
        raise TransientError(f"{text}; will be retried", reason=reason, not_before=until)
    if status in BLOCKED:
        raise PermanentError(f"{text}: access denied; check the cookies and headers", reason="blocked")
    if status in GONE:
        raise PermanentError(f"{text}: the file is gone; correct or drop the URL", reason="gone")
    raise PermanentError(f"{text}: correct or drop the URL", reason="refused")


def retry_after(value: str | None) -> float | None:
    """Return the seconds of a `Retry-After` header (a number or a date); None if it is absent or invalid."""
    if value is None:
        return None
    if value.strip().isdecimal():
        return float(value)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return None


def check_headers(headers: Headers, label: str) -> None:
    """Raise `DataError` if the headers show that the body is not an uncompressed video file."""
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind.startswith(("text/", "image/")) or kind in PAGES:
        text = f"{label}: the server sent {printable(kind)}, not a video: give the URL of the video file itself"
        raise DataError(text, reason="not_a_video")
    if (encoding := headers.get("content-encoding", "").strip().lower()) not in PLAIN:
        # never decompressed: a small body could expand without bound
        text = f"{label}: the server sent a body compressed with {printable(encoding)}, unrequested: give another URL"
        raise DataError(text, reason="packed")


def check_start(data: bytes, label: str) -> None:
    """Raise `DataError` if the first bytes of a body are those of another file type."""
    if other := foreign(data):
        raise DataError(f"{label}: the server sent {other.text}, not a video", reason=other.reason)


def check_size(size: int, label: str, config: SourcesConfig) -> None:
    """Raise `DataError` if a file is larger than `max_bytes`."""
    if size > config.max_bytes:
        text = f"{label}: the file has more than {config.max_bytes} bytes: raise max_bytes, or drop the URL"
        raise DataError(text, reason="too_large")
