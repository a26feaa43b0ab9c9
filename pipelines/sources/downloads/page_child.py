"""Subprocess that resolves one page with yt-dlp: reads a JSON request, prints the URL of the page's video file.

It is run by path, to skip the imports of the packages around it.
"""

import io
import json
import sys
from pathlib import Path
from typing import Any

from opendimo.pipelines.sources.downloads.addresses import is_public

WHOLE = "[protocol~='^https?$']"  # a single file, not a segmented stream
FORMATS = f"bestvideo{WHOLE}[ext=mp4]/bestvideo{WHOLE}/best{WHOLE}"
NOT_PASSED = ("accept-encoding", "range", "host")


class PrivateAddress(OSError):
    """A connection to a private address was blocked."""


def main() -> None:
    """Answer the request on standard input."""
    request = json.loads(sys.stdin.read())
    if not request["allow_private"] and not request["proxy"]:
        sys.addaudithook(_only_public)
    try:
        answer = _resolve(request)
    except Exception as error:
        answer = {"error": f"{type(error).__name__}: {error}"}
    print(json.dumps(answer), flush=True)


def _resolve(request: dict[str, Any]) -> dict[str, Any]:
    import yt_dlp

    # yt-dlp writes cookies back at the end: give it a copy, as the user's file is shared by many processes
    cookies = io.StringIO(Path(request["cookies"]).read_text(encoding="utf-8")) if request["cookies"] else None
    options = {
        "quiet": True,
        "no_warnings": True,
        "noprogress": True,
        "noplaylist": True,
        "playlist_items": "1:2",
        "cookiefile": cookies,
        "proxy": request["proxy"] or "",
        "socket_timeout": request["timeout"],
        "format": FORMATS,
        "enable_file_urls": False,
        "cachedir": False,
        "logger": _Silent(),
    }
    with yt_dlp.YoutubeDL(options) as page:
        info = page.extract_info(request["url"], download=False)
        if info.get("_type") == "playlist":
            entries = list(info.get("entries") or [])
            if len(entries) != 1:
                return {"error": "playlist"}
            info = entries[0]
        if not info.get("url"):
            return {"error": "no_file"}
        cookie = page.cookiejar.get_cookie_header(info["url"])
    headers = {k: v for k, v in (info.get("http_headers") or {}).items() if k.lower() not in NOT_PASSED}
    return {"url": info["url"], "headers": headers | ({"Cookie": cookie} if cookie else {})}


def _only_public(event: str, args: tuple[Any, ...]) -> None:
    """Audit hook that blocks connections to private addresses, whichever code of this process opens them."""
    if event == "socket.connect" and isinstance(args[1], tuple) and not is_public(str(args[1][0])):
        raise PrivateAddress("PrivateAddress")


class _Silent:
    """Logger that drops the messages of yt-dlp, which quote URLs."""

    def debug(self, _: str) -> None:
        """Drop the message."""

    warning = error = info = debug


if __name__ == "__main__":
    main()
