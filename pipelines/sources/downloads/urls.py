"""URLs as they may be shown: what may be a secret stays out of names, logs, messages and tables."""

import re
from urllib.parse import parse_qsl, quote, urlsplit

from opendimo.storage_schemas.ids import sha256_bytes, stable_id

HTTP = ("http", "https")
OBJECT_STORES = ("s3", "gs", "az")
PUBLIC = frozenset({"v", "id", "video", "video_id", "clip", "list", "index", "p", "page", "part", "t", "start", "end"})
"""Parameters that say which video is meant, and never who asks for it."""
HIDDEN = "hidden"
LONGEST = 160  # characters of a name that people read


def hide_secrets(url: str) -> str:
    """The URL without user, password and fragment; values of its query are hidden, but for those of `PUBLIC`.

    Raises `ValueError` where it is none.
    """
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    pairs = parse_qsl(parts.query, keep_blank_values=True)
    shown = "&".join(f"{quote(k)}={quote(v)}" if k in PUBLIC else f"{quote(k)}={HIDDEN}" for k, v in pairs if v)
    bare = f"?{HIDDEN}" if parts.query and not shown else ""
    path = re.sub(r";[^/]*", "", parts.path)  # ;jsessionid=...
    return printable(f"{parts.scheme}://{host}{path}{f'?{shown}' if shown else bare}", limit=2000)


def url_name(url: str) -> str:
    """A short name for people, different for URLs that differ in their query. Raises `ValueError` where it is none."""
    parts = urlsplit(url)
    query = f"?{stable_id(parts.query)[:8]}" if parts.query else ""
    return printable(f"{parts.hostname or ''}{parts.path}{query}")


def host_of(url: str) -> str:
    """`host:port` of a URL (the bucket, of an object store), in lower case: what budgets and reports go by."""
    parts = urlsplit(url)
    host = (parts.hostname or "").lower()
    if parts.scheme in OBJECT_STORES:
        return f"{parts.scheme}://{host}"
    return f"{host}:{parts.port or (443 if parts.scheme == 'https' else 80)}"


def url_sha256(url: str) -> str:
    """Hash of the whole URL."""
    return sha256_bytes(url.encode("utf-8", "surrogatepass"))


def check_url(url: str) -> str | None:
    """What is wrong with a URL, in words that hold nothing of it; None where it can be fetched."""
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018  (it is read to be checked)
    except ValueError:
        return "not a URL: correct it"
    if parts.scheme not in (*HTTP, *OBJECT_STORES):
        return f"cannot fetch {printable(parts.scheme)}://; give an http, https, s3, gs or az URL, or a path"
    if not parts.hostname or not url.isprintable():
        return "not a URL: it has no host, or characters that no URL has"
    return None


def printable(text: str, limit: int = LONGEST) -> str:
    """A name that can be shown and stored: without control characters, cut where it is long.

    Names that differ stay different: what was changed or cut carries a hash of the whole.
    """
    shown = "".join(c if c.isprintable() else "?" for c in text)
    if shown == text and len(text) <= limit:
        return text
    return f"{shown[: limit - 9]}~{stable_id(text)[:8]}"
