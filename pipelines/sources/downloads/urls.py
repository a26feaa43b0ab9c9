"""Displayable forms of URLs: possible secrets are kept out of names, logs, messages and tables."""

import re
from urllib.parse import parse_qsl, quote, urlsplit, urlunsplit

from opendimo.storage_schemas.ids import sha256_bytes, stable_id

HTTP = ("http", "https")
OBJECT_STORES = ("s3", "gs", "az")
PUBLIC = frozenset({"v", "id", "video", "video_id", "clip", "list", "index", "p", "page", "part", "t", "start", "end"})
"""Query parameters that identify the video, never the user."""
HIDDEN = "hidden"
_URL_MARKS = "/%:@!$&'()*+,;=~?[]"  # what stands for itself in a path or a query
LONGEST = 160  # characters of a displayed name


def hide_secrets(url: str) -> str:
    """Return the URL without user, password and fragment, and with query values hidden except those of `PUBLIC`.

    Raises `ValueError` if it is not a URL.
    """
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    pairs = parse_qsl(parts.query, keep_blank_values=True)
    shown = "&".join(f"{quote(k)}={quote(v)}" if k in PUBLIC else f"{quote(k)}={HIDDEN}" for k, v in pairs if v)
    bare = f"?{HIDDEN}" if parts.query and not shown else ""
    return printable(f"{parts.scheme}://{host}{_plain_path(parts.path)}{f'?{shown}' if shown else bare}", limit=2000)


def url_name(url: str) -> str:
    """Return a short display name; URLs that differ in their query get different names.

    Raises `ValueError` if it is not a URL.
    """
    parts = urlsplit(url)
    query = f"?{stable_id(parts.query)[:8]}" if parts.query else ""
    return printable(f"{parts.hostname or ''}{_plain_path(parts.path)}{query}")


def _plain_path(path: str) -> str:
    """Return a path without parameters of its parts, such as `;jsessionid=...`, which may be secrets."""
    return re.sub(r"(;|%3b)[^/]*", "", path, flags=re.IGNORECASE)


def canonical(url: str) -> str:
    """Return one spelling for the URLs of one file: without fragment, lower-case host, spaces as %20."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return url
    path, query = (quote(part, safe=_URL_MARKS) for part in (parts.path, parts.query))
    user, at, host = parts.netloc.rpartition("@")
    return urlunsplit((parts.scheme, user + at + host.lower(), path, query, ""))


def host_of(url: str) -> str:
    """Return the key of rate limits and reports: `host:port` (object stores: `scheme://bucket`), in lower case."""
    parts = urlsplit(url)
    host = (parts.hostname or "").lower()
    if parts.scheme in OBJECT_STORES:
        return f"{parts.scheme}://{host}"
    return f"{host}:{parts.port or (443 if parts.scheme == 'https' else 80)}"


def url_sha256(url: str) -> str:
    """Return the hash of the full URL."""
    return sha256_bytes(url.encode("utf-8", "surrogatepass"))


def check_url(url: str) -> str | None:
    """Return what is wrong with a URL, without quoting it; None if it can be fetched."""
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018  (raises if the port is invalid)
    except ValueError:
        return "not a URL: correct it"
    if parts.scheme not in (*HTTP, *OBJECT_STORES):
        return f"cannot fetch {printable(parts.scheme)}://; give an http, https, s3, gs or az URL, or a path"
    if not parts.hostname or not url.isprintable():
        return "not a URL: it has no host, or characters that no URL has"
    return None


def printable(text: str, limit: int = LONGEST) -> str:
    """Return a name that can be displayed and stored: control characters replaced, cut to `limit` characters.

    Different names stay different: a changed name ends in a hash of the original.
    """
    shown = "".join(c if c.isprintable() else "?" for c in text)
    if shown == text and len(text) <= limit:
        return text
    return f"{shown[: limit - 9]}~{stable_id(text)[:8]}"
