"""What a server's answer means: a file, or a failure with a name."""

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
RETRY = (408, 425, 429)  # like every 5xx, worth another try
PAGES = ("application/json", "application/xml", "application/pdf", "application/xhtml+xml")
PLAIN = ("", "identity", "binary", "none", "utf-8", "aws-chunked")  # "encodings" that change nothing
DEFAULT_PAUSE = 60.0  # seconds after 429 where the server names none


def refuse(status: int, headers: Headers, host: str, asked: str) -> NoReturn:
    """Raise what an answer without a file means; `host` is the one of the budget, `asked` the name for people."""
    word = f"{asked}: the server answered {status}"
    if status in RETRY or status >= 500:
        wait = retry_after(headers.get("retry-after"))
        if wait is None and status == 429:
            wait = DEFAULT_PAUSE
        until = None if wait is None else hosts.pause(host, wait)
        reason = "rate_limited" if status == 429 else "server_error"
        raise TransientError(f"{word}; tried again later", reason=reason, not_before=until)
    if status in BLOCKED:
        raise PermanentError(f"{word}: it wants other cookies or headers, or refuses us", reason="blocked")
    if status in GONE:
        raise PermanentError(f"{word}: the file is gone; correct or drop the URL", reason="gone")
    raise PermanentError(f"{word}: correct or drop the URL", reason="refused")


def retry_after(value: str | None) -> float | None:
    """Seconds that a `Retry-After` header asks for (a number, or a date); None where it says nothing."""
    if value is None:
        return None
    if value.strip().isdecimal():
        return float(value)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return None


def check_headers(headers: Headers, asked: str) -> None:
    """Raise `DataError` where a body cannot be a video as it is."""
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind.startswith(("text/", "image/")) or kind in PAGES:
        text = f"{asked}: the server sent {printable(kind)}, not a video: give the URL of the video file itself"
        raise DataError(text, reason="not_a_video")
    if (encoding := headers.get("content-encoding", "").strip().lower()) not in PLAIN:
        # never unpacked: a small body could become an endless one
        text = f"{asked}: the server sent a body packed with {printable(encoding)}, unasked: give another URL of it"
        raise DataError(text, reason="packed")


def check_start(data: bytes, asked: str) -> None:
    """Raise `DataError` where a body starts as no video does."""
    if found := foreign(data):
        raise DataError(f"{asked}: the server sent {found.text}, not a video", reason=found.reason)


def check_size(size: int, asked: str, config: SourcesConfig) -> None:
    """Raise `DataError` where a file is too long."""
    if size > config.max_bytes:
        text = f"{asked}: the file has more than {config.max_bytes} bytes: raise max_bytes, or drop the URL"
        raise DataError(text, reason="too_large")
