"""Downloading a URL into a cache of files named by their content."""

import ipaddress
import logging
import os
import socket
import tempfile
import time
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

import httpx

from pipelines.sources.config import SourcesConfig
from pipelines.stage import DataError, PermanentError, TransientError
from storage_schemas.files import write_bytes
from storage_schemas.ids import sha256_file, stable_id

logging.getLogger("httpx").setLevel(logging.WARNING)  # it logs whole URLs, which may hold secrets
HEADERS = {"User-Agent": "opendimo", "Accept": "video/*, application/octet-stream, */*;q=0.5"}
RETRY = {408, 425, 429}  # like every 5xx, worth another try


def download(url: str, cache: Path, config: SourcesConfig) -> Path:
    """The file behind `url`, as `<cache>/<sha256 of its bytes>`; a URL that was fetched before is not fetched again.

    Raises `PermanentError` (gone, forbidden, a private address), `TransientError` (network, server, time limit, full
    disk) or `DataError` (not a video by its type, too long, empty).
    """
    known = cache / "urls" / stable_id(url)
    if known.is_file() and (cached := cache / known.read_text()).is_file():
        return cached
    cache.mkdir(parents=True, exist_ok=True)
    host = urlsplit(url).hostname or url
    try:
        with tempfile.NamedTemporaryFile(dir=cache, prefix=".", suffix=".part", delete=False) as part:
            try:
                _fetch(url, part, config)
                part.flush()
                os.fsync(part.fileno())
                path = cache / sha256_file(part.name)
                os.replace(part.name, path)
            finally:
                Path(part.name).unlink(missing_ok=True)
    except httpx.HTTPError as error:
        raise TransientError(f"{host}: {error or type(error).__name__}; tried again later") from error
    except httpx.InvalidURL as error:
        raise DataError(f"{host}: not a URL that can be fetched: {error}") from error
    except OSError as error:
        raise TransientError(f"{host}: cannot fetch or store the file: {error}; check network and disk") from error
    write_bytes(known, path.name.encode())
    return path


def _fetch(url: str, part: IO[bytes], config: SourcesConfig) -> None:
    """Stream the body behind `url`, after at most `max_redirects` redirects, into `part`."""
    deadline = time.monotonic() + config.download_time
    # a proxy would resolve names for us and hide the addresses from the check below
    with httpx.Client(headers=HEADERS, timeout=config.timeout, trust_env=config.allow_private) as client:
        request = client.build_request("GET", url)
        for _ in range(config.max_redirects + 1):
            _check_target(request.url, config)
            response = client.send(request, stream=True)
            try:
                _check_peer(response, config)
                if response.next_request is None:
                    _check_answer(response, config)
                    _save(response, part, deadline, config)
                    return
                request = response.next_request
            finally:
                response.close()
    raise PermanentError(f"{urlsplit(url).hostname}: more than {config.max_redirects} redirects: give the final URL")


def _check_target(url: httpx.URL, config: SourcesConfig) -> None:
    if url.scheme not in ("http", "https"):
        raise PermanentError(f"{url.host}: redirects to {url.scheme}://, only http and https are fetched")
    if config.allow_private:
        return
    port = url.port or (443 if url.scheme == "https" else 80)
    for *_, address in socket.getaddrinfo(url.host, port, type=socket.SOCK_STREAM):
        _check_address(url.host, str(address[0]))


def _check_peer(response: httpx.Response, config: SourcesConfig) -> None:
    """The address that really answered: a name may resolve differently the second time."""
    if not config.allow_private:
        stream = response.extensions["network_stream"]
        _check_address(response.url.host, str(stream.get_extra_info("server_addr")[0]))


def _check_address(host: str, address: str) -> None:
    ip = ipaddress.ip_address(address.partition("%")[0])
    ip = getattr(ip, "ipv4_mapped", None) or ip
    if not ip.is_global or ip.is_multicast:
        raise PermanentError(f"{host} is at {address}, a private address: allow_private permits it, if you mean it")


def _check_answer(response: httpx.Response, config: SourcesConfig) -> None:
    status, host = response.status_code, response.url.host
    if status in RETRY or status >= 500:
        raise TransientError(f"{host}: the server answered {status} {response.reason_phrase}; tried again later")
    if status != 200:
        raise PermanentError(f"{host}: the server answered {status} {response.reason_phrase}: correct or drop the URL")
    kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind.startswith(("text/", "image/")) or kind in ("application/json", "application/xml", "application/pdf"):
        raise DataError(f"{host}: the server sent {kind}, not a video: give the URL of the video file itself")
    length = response.headers.get("content-length", "")
    if length.isdecimal() and int(length) > config.max_bytes:
        raise _too_long(host, config)


def _save(response: httpx.Response, part: IO[bytes], deadline: float, config: SourcesConfig) -> None:
    host, size = response.url.host, 0
    for chunk in response.iter_bytes():
        size += len(chunk)
        if size > config.max_bytes:
            raise _too_long(host, config)
        if time.monotonic() > deadline:
            raise TransientError(f"{host}: not finished after {config.download_time:g} s: raise download_time")
        part.write(chunk)
    if not size:
        raise DataError(f"{host}: the server sent an empty file")


def _too_long(host: str, config: SourcesConfig) -> DataError:
    return DataError(f"{host}: the file has more than {config.max_bytes} bytes: raise max_bytes, or drop the URL")
