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
    """Send a request for `url` and yield the response with its body unread, until `deadline` (monotonic clock).

    Raises the errors of `httpcore` and `Guard`.
    """
    limits = dict.fromkeys(("connect", "read", "write", "pool"), config.timeout_s)
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
    proxy_url = httpx.URL(proxy)
    name, _, password = proxy_url.userinfo.decode("ascii").partition(":")
    auth = (unquote(name), unquote(password)) if proxy_url.userinfo else None
    # the user chose the proxy, so its address may be private
    backend = Guard(deadline, allow_private=True)
    return httpcore.HTTPProxy(_raw(proxy_url), proxy_auth=auth, network_backend=backend, **options)


def _check_behind_proxy(url: httpx.URL) -> None:
    """Reject private addresses that resolve as such here; the proxy resolves names again itself."""
    try:
        addresses = resolve(url.host, url.port or 443)
    except TransientError:  # only the proxy can resolve this name
        return
    for address in addresses:
        check_address(url.host, address)


def _raw(url: httpx.URL) -> httpcore.URL:
    return httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path)


@cache
def _tls() -> ssl.SSLContext:
    return ssl.create_default_context(cafile=os.environ.get("SSL_CERT_FILE") or certifi.where())
