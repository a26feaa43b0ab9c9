"""The process that asks yt-dlp about one page: a wish in JSON comes in, the file behind the page goes out.

It is run by its path, so that it does not wait for the imports of the packages around it.
"""

import io
import json
import sys
from pathlib import Path
from typing import Any

from opendimo.pipelines.sources.downloads.addresses import is_public

WHOLE = "[protocol~='^https?$']"  # one file, not pieces
FORMATS = f"bestvideo{WHOLE}[ext=mp4]/bestvideo{WHOLE}/best{WHOLE}"
NOT_PASSED = ("accept-encoding", "range", "host")


class PrivateAddress(OSError):
    """A connection that was not allowed."""


def main() -> None:
    """Answer the wish on standard input."""
    wish = json.loads(sys.stdin.read())
    if not wish["allow_private"] and not wish["proxy"]:
        sys.addaudithook(_only_public)
    try:
        answer = _ask(wish)
    except Exception as error:
        answer = {"error": f"{type(error).__name__}: {error}"}
    print(json.dumps(answer), flush=True)


def _ask(wish: dict[str, Any]) -> dict[str, Any]:
    import yt_dlp

    # a text stream, as yt-dlp writes its cookies back at the end: the file is the user's, and for many processes
    cookies = io.StringIO(Path(wish["cookies"]).read_text(encoding="utf-8")) if wish["cookies"] else None
    options = {
        "quiet": True,
        "no_warnings": True,
        "noprogress": True,
        "noplaylist": True,
        "playlist_items": "1:2",
        "cookiefile": cookies,
        "proxy": wish["proxy"] or "",
        "socket_timeout": wish["timeout"],
        "format": FORMATS,
        "enable_file_urls": False,
        "cachedir": False,
        "logger": _Silent(),
    }
    with yt_dlp.YoutubeDL(options) as page:
        info = page.extract_info(wish["url"], download=False)
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
    """Called before every connection of this process, whoever makes it."""
    if event == "socket.connect" and isinstance(args[1], tuple) and not is_public(str(args[1][0])):
        raise PrivateAddress("PrivateAddress")


class _Silent:
    """Messages of yt-dlp quote URLs."""

    def debug(self, _: str) -> None:
        """Nothing."""

    warning = error = info = debug


if __name__ == "__main__":
    main()
