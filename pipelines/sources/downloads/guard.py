"""Connections to public addresses only, which end at their time limit.

Each name is resolved once, every address that comes back is checked, and one of those is connected to: an answer of the
name server that changes between check and connection changes nothing, and nothing private is ever sent a request.
"""

import socket
import time
from collections.abc import Iterable
from typing import Any

import httpcore

from opendimo.pipelines.engine.stage import PermanentError, TransientError
from opendimo.pipelines.sources.downloads.addresses import is_public

TRIED = 3  # addresses of one host


class Guard(httpcore.SyncBackend):
    """Opens connections that end at `deadline` (of the monotonic clock), to public addresses unless `allow_private`."""

    def __init__(self, deadline: float, allow_private: bool) -> None:
        self._deadline, self._allow_private = deadline, allow_private

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        """Connect to one of the host's addresses. Raises `PermanentError` (private_address), `TransientError` (dns)."""
        addresses = resolve(host, port)
        if not self._allow_private:
            for address in addresses:
                check_address(host, address)
        failed: Exception = httpcore.ConnectError(f"{host} has no address")
        for address in addresses[:TRIED]:
            try:
                left = _left(self._deadline, timeout)
                stream = super().connect_tcp(address, port, left, local_address, socket_options)
                return _Limited(stream, self._deadline)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failed = error
        raise failed


class _Limited(httpcore.NetworkStream):
    """A stream that nobody can keep open beyond the deadline by sending a byte now and then."""

    def __init__(self, stream: httpcore.NetworkStream, deadline: float) -> None:
        self._stream, self._deadline = stream, deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, _left(self._deadline, timeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, _left(self._deadline, timeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: Any, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        left = _left(self._deadline, timeout)
        return _Limited(self._stream.start_tls(ssl_context, server_hostname, left), self._deadline)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


def resolve(host: str, port: int) -> list[str]:
    """Addresses of a host, each once. Raises `TransientError` where there are none: a name server may be down."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise TransientError(f"{host}: no such host, or no name server; tried again later", reason="dns") from error
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def check_address(host: str, address: str) -> None:
    """Raise `PermanentError` where an address is not one of the public internet."""
    if not is_public(address):
        text = f"{host} is at {address}, a private address: allow_private permits it, if you mean it"
        raise PermanentError(text, reason="private_address")


def _left(deadline: float, timeout: float | None) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise httpcore.ReadTimeout("the time for this file is over")
    return left if timeout is None else min(left, timeout)
