"""Credentials for downloads: cookies, headers and a proxy, read from the user's files.

They are sent only to the hosts they are meant for, and never displayed or stored.
"""

import http.cookiejar
import urllib.request
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import httpx

from opendimo.pipelines.engine.stage import DataError
from opendimo.pipelines.sources.config import SourcesConfig
from opendimo.pipelines.sources.downloads.urls import HTTP
from opendimo.storage_schemas.settings import load_settings

Headers = dict[str, str]


@dataclass(frozen=True)
class AccessFile:
    """The file `access`: the proxy's URL, and tables of headers by host (`*.example.org`: every subdomain)."""

    proxy: str | None = None
    headers: dict[str, Headers] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for headers in self.headers.values():
            for name, value in headers.items():
                if not (value.isprintable() and value.isascii() and name.replace("-", "").isalnum()):
                    raise ValueError("not a header")


@dataclass(frozen=True)
class Access:
    """Headers by host (`*.example.org`: every subdomain), the proxy's URL, and cookies."""

    headers: dict[str, Headers] = field(default_factory=dict, repr=False)
    proxy: str | None = field(default=None, repr=False)
    cookies: http.cookiejar.CookieJar | None = field(default=None, repr=False)

    def headers_for(self, url: str, host: str) -> Headers:
        """Return the headers, cookies included, for a request of `url`."""
        matching: Headers = {}
        for pattern, headers in self.headers.items():
            if pattern in (host, "*") or (pattern.startswith("*.") and host.endswith(pattern[1:])):
                matching |= headers
        if self.cookies is not None:
            request = urllib.request.Request(url)
            self.cookies.add_cookie_header(request)
            if cookie := request.get_header("Cookie"):
                matching["Cookie"] = cookie
        return matching


def access(config: SourcesConfig) -> Access:
    """Read the files `cookies` and `access` of a config. Raises `DataError` if a file cannot be used."""
    paths = tuple(Path(name) if name else None for name in (config.cookies, config.access))
    try:
        times = tuple(path.stat().st_mtime_ns if path else 0 for path in paths)
    except OSError as error:
        raise DataError(f"{error.filename}: no such file: correct `cookies` or `access`") from error
    return _read(*paths, times)


@lru_cache(maxsize=8)
def _read(cookies: Path | None, file: Path | None, _times: tuple[int, ...]) -> Access:
    jar = None
    if cookies:
        jar = http.cookiejar.MozillaCookieJar(cookies)
        try:
            jar.load(ignore_discard=True, ignore_expires=True)
        except (
            http.cookiejar.LoadError,
            UnicodeDecodeError,
            ValueError,
        ):  # drop the cause: its message quotes the line
            raise DataError(f"{cookies}: not a cookies file in Netscape format: correct `cookies`") from None
        for cookie in jar:
            if cookie.expires == 0:  # browsers write session cookies like this
                cookie.expires = None
    if file is None:
        return Access(cookies=jar)
    try:
        given = load_settings(file, AccessFile)
    except ValueError:  # drop the cause: its message may quote secrets
        text = 'not a TOML file with `proxy = "http://..."` and tables [headers."HOST"] of header names and values'
        raise DataError(f"{file}: {text}") from None
    if given.proxy is not None and (problem := _proxy_problem(given.proxy)):
        raise DataError(f"{file}: proxy: {problem}")
    return Access({host.lower(): values for host, values in given.headers.items()}, given.proxy, jar)


def _proxy_problem(proxy: str) -> str | None:
    """Return what is wrong with a proxy URL, without quoting it; None if it is valid."""
    try:
        url = httpx.URL(proxy)
    except (httpx.InvalidURL, UnicodeError):
        return "not a URL: check its port, and write characters such as @ : / # of a password as %40 %3A %2F %23"
    if url.scheme.startswith("socks"):
        return "SOCKS proxies are not supported: give the URL of an HTTP one"
    if url.scheme not in HTTP or not url.host:
        return "not the URL of a proxy: write http://HOST:PORT"
    return None
