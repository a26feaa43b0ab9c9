"""Open connections to public addresses only, with a deadline.

Each host name is resolved once, all resolved addresses are checked, and one of them is connected to. So DNS rebinding
(an answer that changes between check and connection) has no effect, and no request reaches a private address.
"""

import socket
import time
from collections.abc import Iterable
from typing import Any

import httpcore

from opendimo.pipelines.engine.stage import PermanentError, TransientError
from opendimo.pipelines.sources.downloads.addresses import is_public

TRIED = 3  # addresses tried per host


class Guard(httpcore.SyncBackend):
    """Network backend with a `deadline` (monotonic clock) that accepts only public addresses unless `allow_private`."""

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
        """Connect to one of the host's addresses.

        Raises `PermanentError` (private_address), `TransientError` (dns) or the connection error of the last address.
        """
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
    """A stream with a hard deadline, so that a server cannot keep it open by sending a byte now and then."""

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
    """Return the distinct addresses of a host. Raises `TransientError` if there are none: a name server may be down."""
    try:
        entries = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        text = f"{host}: cannot resolve the host name (no such host, or no name server); will be retried"
        raise TransientError(text, reason="dns") from error
    return list(dict.fromkeys(str(entry[4][0]) for entry in entries))


def check_address(host: str, address: str) -> None:
    """Raise `PermanentError` if an address is not on the public internet."""
    if not is_public(address):
        text = f"{host} resolves to {address}, a private address: set allow_private to permit it"
        raise PermanentError(text, reason="private_address")


def _left(deadline: float, timeout: float | None) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise httpcore.ReadTimeout("the time limit for this file has passed")
    return left if timeout is None else min(left, timeout)
