"""Pages of video platforms: yt-dlp (an extra) finds the file behind a page, and this house fetches it.

yt-dlp runs in a process of its own, which may hang or die, and which connects to public addresses only. What it finds
is fetched like every other URL: resumable, within the budgets of its host, and once.
"""

import importlib.util
import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from opendimo.pipelines.engine.stage import DataError, PermanentError, TransientError
from opendimo.pipelines.sources.config import SourcesConfig
from opendimo.pipelines.sources.downloads.access import Access
from opendimo.pipelines.sources.downloads.urls import HTTP, url_name
from opendimo.pipelines.sources.signatures import VIDEO_SUFFIXES

LIMIT = 120.0  # seconds for one page
INSTALL = "pages of video platforms need yt-dlp: install it with `pip install 'opendimo[platforms]'`"
MEANT = (  # what yt-dlp says, in the order in which it is looked for
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
    "private_address": "leads to a private address: allow_private permits it, if you mean it",
    "rate_limited": "the platform asks us to slow down; tried again later",
    "gone": "the video is gone; drop the URL",
    "blocked": "the platform refuses us: give `cookies` of somebody who may see it",
    "network": "the platform does not answer; tried again later",
    "not_a_video": "yt-dlp finds no video there: correct the URL",
    "playlist": "it is a list of videos: give the URL of each video",
    "no_file": "the platform streams it in pieces only, which are not fetched: give another URL of it",
    "unknown": "yt-dlp cannot read the page: a newer yt-dlp may",
}


@dataclass(frozen=True)
class Found:
    """The file behind a page, and the headers that its server wants."""

    url: str = field(repr=False)
    headers: dict[str, str] = field(repr=False)


def is_page(url: str, config: SourcesConfig) -> bool:
    """Whether a URL shows a page of a platform, and is not that of a file there."""
    parts = urlsplit(url)
    host, suffix = parts.hostname or "", PurePosixPath(parts.path).suffix.lower()
    known = any(host == name or host.endswith(f".{name}") for name in config.platforms)
    return known and parts.scheme in HTTP and suffix not in VIDEO_SUFFIXES


def is_installed() -> bool:
    """Whether yt-dlp is there."""
    return importlib.util.find_spec("yt_dlp") is not None


def find(url: str, config: SourcesConfig, access: Access) -> Found:
    """The file behind a page. Raises `PermanentError`, `TransientError` or `DataError` with its reason."""
    name = url_name(url)
    if not is_installed():
        raise PermanentError(f"{name}: {INSTALL}", reason="needs_ytdlp")
    wish = {
        "url": url,
        "cookies": config.cookies,
        "proxy": access.proxy,
        "allow_private": config.allow_private,
        "timeout": config.timeout,
    }
    command = [sys.executable, "-P", str(Path(__file__).with_name("page_child.py"))]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    try:
        # the URL may hold secrets: it goes through a pipe, where a list of processes does not show it
        done = subprocess.run(
            command, input=json.dumps(wish), capture_output=True, text=True, timeout=LIMIT, env=environment, check=False
        )
        answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    except subprocess.TimeoutExpired:
        raise TransientError(f"{name}: yt-dlp did not end within {LIMIT:g} s", reason="timeout") from None
    except (ValueError, IndexError):
        raise TransientError(f"{name}: yt-dlp died on the page", reason="crashes") from None
    if "error" in answer:
        raise _failure(name, answer["error"])
    if not str(answer["url"]).startswith(tuple(f"{scheme}://" for scheme in HTTP)):
        raise _failure(name, "no_file")
    return Found(str(answer["url"]), {str(k): str(v) for k, v in answer["headers"].items()})


def _failure(name: str, said: str) -> Exception:
    """The failure behind what yt-dlp said, which itself is not repeated: it may quote URLs."""
    found = (reason for pattern, reason in MEANT if re.search(pattern, said, re.IGNORECASE))
    reason = said if said in TEXTS else next(found, "unknown")
    kind = TransientError if reason in TRANSIENT else DataError if reason in DATA else PermanentError
    return kind(f"{name}: {TEXTS[reason]}", reason=reason)
