"""One request to an http(s) server, directly or through the user's proxy."""

import os
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any
from urllib.parse import unquote

import certifi
import httpcore
import httpx

from opendimo.pipelines.engine.stage import TransientError
from opendimo.pipelines.sources.config import SourcesConfig
from opendimo.pipelines.sources.downloads.guard import Guard, check_address, resolve


@contextmanager
def request(
    url: httpx.URL,
    headers: dict[str, str],
    config: SourcesConfig,
    proxy: str | None,
    deadline: float,
    method: str = "GET",
) -> Iterator[httpcore.Response]:
    """The answer to a request for `url`, with its body unread; `deadline` (monotonic clock) ends it wherever it is.

    Raises the errors of `httpcore`, and those of `Guard`.
    """
    limits = dict.fromkeys(("connect", "read", "write", "pool"), config.timeout)
    raw = [(name.encode("latin-1"), value.encode("latin-1", "replace")) for name, value in headers.items()]
    with (
        _pool(url, config, proxy, deadline) as pool,
        pool.stream(method, _raw(url), headers=raw, extensions={"timeout": limits}) as response,
    ):
        yield response


def _pool(url: httpx.URL, config: SourcesConfig, proxy: str | None, deadline: float) -> httpcore.ConnectionPool:
    options: dict[str, Any] = {"ssl_context": _tls(), "max_keepalive_connections": 0}
    if proxy is None:
        return httpcore.ConnectionPool(network_backend=Guard(deadline, config.allow_private), **options)
    if not config.allow_private:
        _check_behind_proxy(url)
    place = httpx.URL(proxy)
    name, _, password = place.userinfo.decode("ascii").partition(":")
    auth = (unquote(name), unquote(password)) if place.userinfo else None
    # the proxy itself is the user's own, wherever it is
    backend = Guard(deadline, allow_private=True)
    return httpcore.HTTPProxy(_raw(place), proxy_auth=auth, network_backend=backend, **options)


def _check_behind_proxy(url: httpx.URL) -> None:
    """The proxy resolves names for itself; what can be told here is refused here."""
    try:
        addresses = resolve(url.host, url.port or 443)
    except TransientError:  # a name that only the proxy can resolve
        return
    for address in addresses:
        check_address(url.host, address)


def _raw(url: httpx.URL) -> httpcore.URL:
    return httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path)


@cache
def _tls() -> ssl.SSLContext:
    return ssl.create_default_context(cafile=os.environ.get("SSL_CERT_FILE") or certifi.where())
