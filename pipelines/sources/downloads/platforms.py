"""Resolve pages of video platforms: yt-dlp (an optional dependency) finds the video file of a page.

yt-dlp runs in a subprocess, which may hang or crash and connects to public addresses only. The file that it finds is
downloaded like every other URL: cached, resumable and within the rate limits of its host.
"""

import importlib.util
import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from opendimo.pipelines.engine.stage import DataError, PermanentError, TransientError
from opendimo.pipelines.sources.config import SourcesConfig
from opendimo.pipelines.sources.downloads.urls import HTTP, url_name
from opendimo.pipelines.sources.signatures import VIDEO_SUFFIXES

if TYPE_CHECKING:
    from opendimo.pipelines.sources.downloads.access import Access

LIMIT = 120.0  # time limit for one page, in seconds
INSTALL = "pages of video platforms need yt-dlp: install it with `pip install 'opendimo[platforms]'`"
REASONS = (  # patterns of yt-dlp's error messages, first match wins
    (r"PrivateAddress", "private_address"),
    (r"\b429\b|too many requests", "rate_limited"),
    (r"\b(404|410)\b|no longer available|been removed|does not exist|video unavailable|account.*terminated", "gone"),
    (r"\b(401|403|451)\b|private video|sign in|log ?in|members|not a bot|your country|geo.?restrict|drm", "blocked"),
    (r"\b5\d\d\b|timed out|connection|resolve|temporar|network", "network"),
    (r"unsupported url|no video|no suitable", "not_a_video"),
)
TRANSIENT = ("rate_limited", "network")
DATA = ("not_a_video", "playlist", "no_file")
TEXTS = {
    "private_address": "leads to a private address: set allow_private to permit it",
    "rate_limited": "rate limited by the platform; will be retried",
    "gone": "the video is gone; drop the URL",
    "blocked": "the platform denies access: give `cookies` of an account that may see the video",
    "network": "the platform does not answer; will be retried",
    "not_a_video": "yt-dlp finds no video on the page: correct the URL",
    "playlist": "the page is a playlist: give the URL of each video",
    "no_file": "the platform serves segmented streams only, which are not supported: give another URL of the video",
    "unknown": "yt-dlp cannot read the page: try a newer yt-dlp",
}


@dataclass(frozen=True)
class Found:
    """URL of the video file of a page, and the request headers that its server requires."""

    url: str = field(repr=False)
    headers: dict[str, str] = field(repr=False)


def is_page(url: str, config: SourcesConfig) -> bool:
    """Return whether a URL is a page of a platform rather than a video file."""
    parts = urlsplit(url)
    host, suffix = parts.hostname or "", PurePosixPath(parts.path).suffix.lower()
    on_platform = any(host == name or host.endswith(f".{name}") for name in config.platforms)
    return on_platform and parts.scheme in HTTP and suffix not in VIDEO_SUFFIXES


def is_installed() -> bool:
    """Return whether yt-dlp is installed."""
    return importlib.util.find_spec("yt_dlp") is not None


def find(url: str, config: SourcesConfig, access: "Access") -> Found:
    """Find the video file of a page. Raises `PermanentError`, `TransientError` or `DataError`, each with a reason."""
    name = url_name(url)
    if not is_installed():
        raise PermanentError(f"{name}: {INSTALL}", reason="needs_ytdlp")
    request = {
        "url": url,
        "cookies": config.cookies,
        "proxy": access.proxy,
        "allow_private": config.allow_private,
        "timeout": config.timeout_s,
    }
    command = [sys.executable, "-P", str(Path(__file__).with_name("page_child.py"))]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    try:
        # pass the URL through a pipe: it may contain secrets, which a process list would show
        done = subprocess.run(
            command,
            input=json.dumps(request),
            capture_output=True,
            text=True,
            timeout=LIMIT,
            env=environment,
            check=False,
        )
        answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    except subprocess.TimeoutExpired:
        text = f"{name}: yt-dlp timed out after {LIMIT:g} s; will be retried"
        raise TransientError(text, reason="timeout") from None
    except (ValueError, IndexError):
        raise TransientError(f"{name}: yt-dlp crashed on the page; will be retried", reason="crashes") from None
    if "error" in answer:
        raise _failure(name, answer["error"])
    if not str(answer["url"]).startswith(tuple(f"{scheme}://" for scheme in HTTP)):
        raise _failure(name, "no_file")
    return Found(str(answer["url"]), {str(k): str(v) for k, v in answer["headers"].items()})


def _failure(name: str, message: str) -> Exception:
    """Return the failure for an error message of yt-dlp, without quoting it: it may contain URLs."""
    matches = (reason for pattern, reason in REASONS if re.search(pattern, message, re.IGNORECASE))
    reason = message if message in TEXTS else next(matches, "unknown")
    kind = TransientError if reason in TRANSIENT else DataError if reason in DATA else PermanentError
    return kind(f"{name}: {TEXTS[reason]}", reason=reason)
